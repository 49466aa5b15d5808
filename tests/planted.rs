//! Proof that the simulator finds what it is there to find: bugs that are planted on purpose, one at a time.
//!
//! `cargo test --test planted` checks that every text of `tests/sim/planted.txt` still occurs exactly once.
//! `PULSEWIRE_PLANTED=all cargo test --test planted -- --nocapture` plants them: each is applied to a copy of this
//! package, built, and looked for with up to 1 000 seeds of its scenario. One name, or several with commas between
//! them, look for these alone. It takes some seconds for each. What threads do to each other is out of the simulator's
//! sight: such bugs name the test that finds them, which gets a few runs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Seeds in which each has to be found.
const SEEDS: u64 = 1_000;

/// Instead of a file of tests: the unit tests of the library.
const LIB: &str = "lib";

/// Runs in which another test has to find one.
const RUNS: u64 = 5;

/// The tests of `tests/sim_transport.rs`, by the names of their scenarios.
const SCENARIOS: [(&str, &str); 3] = [
    ("mixed", "every_call_ends_once_and_every_account_balances_whatever_the_network_does"),
    ("forgetful", "servers_that_forget_sessions_lose_nothing_unsaid_and_run_nothing_twice"),
    ("abrupt", "connections_that_end_again_and_again_cost_no_call_and_no_message"),
];

/// A bug that can be planted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planted {
    name: String,
    scenario: String,
    changes: Vec<Change>,
}

/// A text, and what takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    file: String,
    find: String,
    put: String,
}

impl Change {
    /// The file with the change.
    fn apply(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.put, 1)),
            count => Err(format!("{}: occurs {count} times, not once:\n{}", self.file, self.find)),
        }
    }
}

/// The file in which a test is, and its name there.
fn place<'a>(file: &str, test: &'a str) -> (PathBuf, &'a str) {
    let Some((module, name)) = test.rsplit_once("::").filter(|_| file == LIB) else {
        return (package().join("tests").join(format!("{file}.rs")), test);
    };
    let own = package().join("src").join(module.replace("::", "/")).with_extension("rs");
    let within = own.parent().expect("it lies in src").with_extension("rs");
    (if own.exists() { own } else { within }, name)
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn planted() -> Vec<Planted> {
    parse(&read(&package().join("tests/sim/planted.txt"))).unwrap_or_else(|what| panic!("{what}"))
}

fn parse(text: &str) -> Result<Vec<Planted>, String> {
    let mut bugs: Vec<Planted> = Vec::new();
    let mut file = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let unfit = |what: &str| format!("{what}: {line}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            bugs.push(Planted { name: name.into(), scenario: String::new(), changes: Vec::new() });
            continue;
        }
        let bug = bugs.last_mut().ok_or_else(|| unfit("before the first bug"))?;
        if let Some(scenario) = line.strip_prefix("scenario: ").or_else(|| line.strip_prefix("test: ")) {
            bug.scenario = scenario.into();
        } else if let Some(path) = line.strip_prefix("file: ") {
            file = path.into();
        } else if line == "<<<<" {
            let find: Vec<&str> = lines.by_ref().take_while(|line| *line != "====").collect();
            let put: Vec<&str> = lines.by_ref().take_while(|line| *line != ">>>>").collect();
            bug.changes.push(Change { file: file.clone(), find: find.join("\n"), put: put.join("\n") });
        } else {
            return Err(unfit("not understood"));
        }
    }
    Ok(bugs)
}

#[test]
fn every_planted_bug_still_has_its_place() {
    let bugs = planted();
    let names: BTreeSet<&str> = bugs.iter().map(|bug| bug.name.as_str()).collect();
    assert_eq!(names.len(), bugs.len(), "names are unique");
    let mut rotten = Vec::new();
    for Planted { name, scenario, changes } in &bugs {
        let Search { file, test, .. } =
            search(scenario).unwrap_or_else(|| panic!("{name}: there is no scenario {scenario:?}"));
        let (path, test) = place(file, test);
        assert!(read(&path).contains(&format!("fn {test}(")), "{name}: {} has no {test}", path.display());
        assert!(!changes.is_empty(), "{name} changes nothing");
        for change in changes {
            assert_ne!(change.find, change.put, "{name} changes nothing");
            let text = read(&package().join(&change.file));
            rotten.extend(change.apply(&text).err().map(|what| format!("{name}: {what}")));
        }
    }
    assert!(rotten.is_empty(), "\n{}", rotten.join("\n\n"));
}

#[test]
fn list_is_read_as_it_is_written() {
    let text = "# a comment\n\n== one\nscenario: mixed\nfile: a.rs\n<<<<\n  x\n\n  y\n====\n>>>>\n\
                file: b.rs\n<<<<\nz\n====\n  1\n  2\n>>>>\n";
    let change =
        |file: &str, find: &str, put: &str| Change { file: file.into(), find: find.into(), put: put.into() };
    let changes = vec![change("a.rs", "  x\n\n  y", ""), change("b.rs", "z", "  1\n  2")];
    let one = Planted { name: "one".into(), scenario: "mixed".into(), changes };
    assert_eq!(parse(text), Ok(vec![one.clone()]));
    assert!(parse("file: a.rs").is_err() && parse("== one\nfle: a.rs").is_err());
    assert_eq!(one.changes[1].apply("(z)"), Ok("(  1\n  2)".into()));
    assert!(one.changes[1].apply("zz").is_err() && one.changes[1].apply("").is_err());
}

#[test]
fn every_planted_bug_is_found() {
    let Ok(wanted) = env::var("PULSEWIRE_PLANTED") else {
        println!("skipped: PULSEWIRE_PLANTED=all, or names with commas between them, plants them");
        return;
    };
    let bugs = planted();
    let is_wanted = |bug: &&Planted| wanted == "all" || wanted.split(',').any(|name| name == bug.name);
    let bugs: Vec<&Planted> = bugs.iter().filter(is_wanted).collect();
    assert!(!bugs.is_empty(), "there is no bug named {wanted}");
    let garden = Garden::new();
    garden.expect_healthy();
    let mut missed = Vec::new();
    println!("| planted bug | scenario or test | seeds or runs | what was wrong |\n|---|---|---:|---|");
    for bug in bugs {
        let found = garden.plant(bug);
        let Find { seeds, what } = found.clone().unwrap_or(Find { seeds: 0, what: "not found".into() });
        println!("| {} | {} | {seeds} | {what} |", bug.name, bug.scenario);
        missed.extend(found.is_none().then_some(&bug.name));
    }
    assert!(missed.is_empty(), "not found in {SEEDS} seeds or {RUNS} runs: {missed:?}");
}

/// How a bug was found.
#[derive(Debug, Clone)]
struct Find {
    seeds: u64,
    what: String,
}

/// A copy of this package, in which bugs are planted.
struct Garden {
    root: PathBuf,
}

/// What is copied. All that the manifest names must be there, and the lock file, so that nothing is fetched.
const COPIED: [&str; 7] = ["Cargo.toml", "Cargo.lock", "README.md", "src", "examples", "benches", "tests"];

impl Garden {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
        fs::create_dir_all(&root).expect("the copy can be written to");
        for name in COPIED {
            copy(&package().join(name), &root.join(name));
        }
        Garden { root }
    }

    /// Without any bug, nothing is found: else what is found proves nothing.
    fn expect_healthy(&self) {
        for (scenario, _) in SCENARIOS {
            let found = self.look(&Search { tries: 50, ..search(scenario).expect("known") });
            assert!(found.is_none(), "{scenario} finds something where nothing is planted: {found:?}");
        }
    }

    /// Plants a bug, looks for it, and takes it out again.
    fn plant(&self, bug: &Planted) -> Option<Find> {
        for change in &bug.changes {
            let path = self.root.join(&change.file);
            let changed = change.apply(&read(&path)).unwrap_or_else(|what| panic!("{}: {what}", bug.name));
            fs::write(&path, changed).expect("the copy can be written to");
        }
        let found = self.look(&search(&bug.scenario).expect("known"));
        for change in &bug.changes {
            copy(&package().join(&change.file), &self.root.join(&change.file));
        }
        found
    }

    /// Builds a test, and runs it until it fails or has run often enough.
    fn look(&self, search: &Search) -> Option<Find> {
        let built = self.cargo(search, &["--no-run"]);
        assert!(built.status.success(), "it does not build:\n{}", String::from_utf8_lossy(&built.stderr));
        let runs = if search.is_seeded() { 1 } else { search.tries };
        (1..=runs).find_map(|run| {
            let out = self.cargo(search, &["--", "--exact", "--nocapture", search.test]);
            let said = String::from_utf8_lossy(&out.stderr);
            if out.status.success() {
                return None;
            }
            let seeds = if search.is_seeded() { failing_seed(&said) + 1 } else { run };
            Some(Find { seeds, what: what_was_wrong(&said) })
        })
    }

    fn cargo(&self, search: &Search, arguments: &[&str]) -> Output {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&self.root);
        cargo.args(["test", "--offline"]);
        match search.file {
            LIB => cargo.arg("--lib"),
            file => cargo.args(["--test", file]),
        };
        if search.is_seeded() {
            // The lower floors are all that it needs.
            cargo.arg("--no-default-features");
        }
        cargo.args(arguments);
        cargo.env("CARGO_TARGET_DIR", self.root.join("target"));
        cargo.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_TEST_DEBUG", "0");
        cargo.env("PULSEWIRE_SIM_SEED", format!("0..{}", search.tries));
        cargo.env("RUST_BACKTRACE", "0");
        cargo.env_remove("PULSEWIRE_SIM_SEEDS");
        cargo.output().expect("cargo runs, as it runs this")
    }
}

/// Which test looks for a bug, and how long.
#[derive(Debug, Clone, Copy)]
struct Search<'a> {
    /// The name of its file, without the ending, or [`LIB`].
    file: &'a str,
    test: &'a str,
    /// Seeds, or runs of a test that has none.
    tries: u64,
}

impl Search<'_> {
    fn is_seeded(&self) -> bool {
        self.file == "sim_transport"
    }
}

/// What a scenario means: one of the simulator's, or a file of tests and one of its tests.
fn search(scenario: &str) -> Option<Search<'_>> {
    let simulated = SCENARIOS.iter().find(|(name, _)| *name == scenario);
    let simulated = simulated.map(|(_, test)| Search { file: "sim_transport", test, tries: SEEDS });
    simulated.or_else(|| {
        let (file, test) = scenario.split_once(' ')?;
        Some(Search { file, test, tries: RUNS })
    })
}

fn failing_seed(said: &str) -> u64 {
    let seed = said.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(" fails"));
    let seed = seed.unwrap_or_else(|| panic!("neither passed nor failed:\n{said}")).0;
    seed.parse().expect("a seed is a number")
}

/// The last panic's message, in one line of a table.
fn what_was_wrong(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
    let what = lines.next().unwrap_or("").chars().filter(|letter| *letter != '|');
    what.take(100).collect()
}

/// Copies a file or a folder. What is the same stays untouched, so that nothing is built anew for it.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("the copy can be written to");
        for entry in fs::read_dir(from).expect("a folder of ours").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
        return;
    }
    let new = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    if fs::read(to).ok().as_ref() != Some(&new) {
        fs::write(to, new).expect("the copy can be written to");
    }
}
