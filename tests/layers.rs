//! Imports point down only, and below `net` there is no clock, socket or thread. This reads the sources and compares
//! them with the table.
//!
//! It is a scanner, not a compiler: it knows comments, literals, paths, use groups and inline modules, and takes
//! every `crate::...` and `super::...` for an import, wherever it stands. Tests inside `src/` are not exempt.

use std::fs;
use std::path::Path;

/// The floors from the top, and what each may import beside itself.
const HOUSE: [(&str, &[&str]); 7] = [
    ("trader", &["rpc"]),
    ("rpc", &["net", "pattern"]),
    ("net", &["pattern", "session", "time"]),
    ("pattern", &["session", "wire", "time"]),
    ("session", &["wire", "time"]),
    ("wire", &[]),
    ("time", &[]),
];
/// Floors that are handed bytes and `now`, and build without `std`.
const SANS_IO: [&str; 4] = ["pattern", "session", "wire", "time"];
/// They hold the house together, or look into all of it, and may use everything.
const OUTSIDE: [&str; 2] = ["lib", "fuzz"];
/// The places that ask what time it is in the world: one for heartbeats, one for trading records. Data, never timers.
const WALL_CLOCKS: [&str; 2] = ["src/net/clock.rs", "src/trader/timestamp.rs"];

/// Tests of sans-IO floors that lean on `std` all the same, each with its reason. Their imports are checked like all
/// others.
const TESTS_WITH_STD: [(&str, &str); 3] = [
    ("src/pattern/log/tests.rs", "catches panics of its callers' closures, and measures on demand"),
    ("src/pattern/prefix/tests.rs", "measures on demand"),
    ("src/pattern/server/tests/gate.rs", "publishes from threads that have no lock"),
];

/// Names that a sans-IO floor has no use for.
const FOREIGN_NAMES: [&str; 7] =
    ["std", "mio", "socket2", "getrandom", "RandomState", "TcpStream", "TcpListener"];
/// Words that no name of a sans-IO floor contains, ...
const FOREIGN_WORDS: [&str; 4] = ["thread", "threads", "socket", "sockets"];
/// ... but for these, which are data (`core::net`) and can do nothing.
const HARMLESS_NAMES: [&str; 3] = ["SocketAddr", "SocketAddrV4", "SocketAddrV6"];

#[test]
fn sources_keep_to_the_table() {
    let mut sources = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    collect(root, Path::new("src"), &mut sources);
    for file in ["src/lib.rs", "src/time.rs", "src/wire/mod.rs"] {
        assert!(
            sources.iter().any(|(path, _)| path == file),
            "{file} was not found: is anything read at all?"
        );
    }
    let found: Vec<String> = sources.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));

    for (path, text) in &sources {
        assert_eq!(
            untested_tests(&tokens(text)),
            [0; 0],
            "{path}: mod tests without #[cfg(test)] on these lines"
        );
    }
    for (exempt, _) in TESTS_WITH_STD {
        let source = sources.iter().find(|(path, _)| path == exempt);
        let needed = source.is_some_and(|(_, text)| !foreign_to_sans_io(&tokens(text)).is_empty());
        assert!(
            needed && (exempt.ends_with("/tests.rs") || exempt.contains("/tests/")),
            "{exempt} needs no exemption, or is no file of tests"
        );
    }
}

#[test]
fn table_points_down_only() {
    for (floor, (name, below)) in HOUSE.iter().enumerate() {
        for import in *below {
            let at = HOUSE.iter().position(|(other, _)| other == import);
            assert!(at.is_some_and(|at| at > floor), "{name} imports {import}");
        }
    }
}

/// All sources under `folder`, with their paths from the root of the crate.
fn collect(root: &Path, folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root.join(&path).is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.to_str().expect("our own files have plain names").replace('\\', "/");
            sources.push((name, fs::read_to_string(root.join(&path)).unwrap()));
        }
    }
}

/// What is wrong with one source, each with its line.
fn violations(path: &str, text: &str) -> Vec<String> {
    let modules = modules_of(path);
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("{path}:{line}: {what}"));

    let floor = modules.first().copied().unwrap_or("lib");
    let table = HOUSE.iter().find(|(name, _)| *name == floor);
    if table.is_none() && !OUTSIDE.contains(&floor) {
        say(1, format!("{floor} is no floor of the house"));
    }
    for (line, what) in ways_around(&tokens) {
        say(line, what.to_owned());
    }
    if !WALL_CLOCKS.contains(&path) {
        for line in sequences(&tokens, &["SystemTime"]) {
            say(line, format!("SystemTime outside {}", WALL_CLOCKS.join(" and ")));
        }
    }
    if SANS_IO.contains(&floor) && TESTS_WITH_STD.iter().all(|(exempt, _)| *exempt != path) {
        for (line, name) in foreign_to_sans_io(&tokens) {
            say(line, format!("{name} below net"));
        }
    }
    if let Some((_, below)) = table {
        for path in paths(&tokens, modules.len()) {
            if let Err(what) = path.check(floor, below) {
                say(path.line, what);
            }
        }
    }
    found
}

/// `src/wire/lists.rs` is the module `wire::lists`, `src/wire/mod.rs` is `wire`, `src/lib.rs` is none.
fn modules_of(path: &str) -> Vec<&str> {
    let inside =
        path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).expect("a source under src/");
    let mut modules: Vec<&str> = inside.split('/').collect();
    if modules.last() == Some(&"mod") || modules == ["lib"] {
        modules.pop();
    }
    modules
}

/// Ways to import without a path that this scanner would see.
fn ways_around(tokens: &[Token]) -> Vec<(usize, &'static str)> {
    let attribute = sequences(tokens, &["#", "[", "path", "="]);
    let include = sequences(tokens, &["include", "!"]);
    let own_name = sequences(tokens, &["extern", "crate", "self"]);
    let attribute = attribute.into_iter().map(|line| (line, "#[path] hides where a module is"));
    let include = include.into_iter().map(|line| (line, "include! hides where code is from"));
    let own_name = own_name.into_iter().map(|line| (line, "extern crate self opens a way around the table"));
    attribute.chain(include).chain(own_name).collect()
}

/// Clocks, sockets, threads and `std`, each with its line.
fn foreign_to_sans_io(tokens: &[Token]) -> Vec<(usize, &str)> {
    let names = tokens.iter().filter(|token| token.is_name() && is_foreign(&token.text));
    let clocks = sequences(tokens, &["Instant", "::", "now"]).into_iter().map(|line| (line, "Instant::now"));
    names.map(|token| (token.line, &*token.text)).chain(clocks).collect()
}

/// Lines with a `mod tests;` that is part of the library.
fn untested_tests(tokens: &[Token]) -> Vec<usize> {
    let marked = sequences(tokens, &["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", ";"]).len();
    let all = sequences(tokens, &["mod", "tests", ";"]);
    if all.len() > marked {
        all
    } else {
        Vec::new()
    }
}

fn is_foreign(name: &str) -> bool {
    let has_foreign_word = || words(name).iter().any(|word| FOREIGN_WORDS.contains(&&**word));
    FOREIGN_NAMES.contains(&name) || (!HARMLESS_NAMES.contains(&name) && has_foreign_word())
}

/// The words of a name, in lower case: `max_threads`, `UdpSocket` and `MAX_SOCKETS` have two each.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && after_small) {
            words.push(String::new());
        }
        if letter != '_' {
            words.last_mut().expect("never empty").extend(letter.to_lowercase());
        }
        after_small = letter.is_lowercase();
    }
    words
}

/// Lines on which these tokens follow each other.
fn sequences(tokens: &[Token], wanted: &[&str]) -> Vec<usize> {
    let is_match = |window: &&[Token]| window.iter().zip(wanted).all(|(token, wanted)| token.text == *wanted);
    tokens.windows(wanted.len()).filter(is_match).map(|window| window[0].line).collect()
}

/// A path that begins with `crate`, `self` or `super`.
#[derive(Debug)]
struct ModulePath {
    line: usize,
    segments: Vec<String>,
    /// How many modules down from the root the path is written.
    depth: usize,
}

impl ModulePath {
    /// Says how the path breaks the table, for code on `floor` that may import `below`.
    fn check(&self, floor: &str, below: &[&str]) -> Result<(), String> {
        let mut segments =
            self.segments.iter().map(|segment| &**segment).filter(|segment| *segment != "self");
        if self.segments[0] != "crate" {
            let ups = segments.take_while(|segment| *segment == "super").count();
            return match ups < self.depth {
                true => Ok(()),
                false => Err(format!("{} leaves {floor} by super", self.segments.join("::"))),
            };
        }
        segments.next();
        match segments.next() {
            None | Some("*") => Err(format!("{floor} takes hold of the whole crate")),
            Some(target) if target == floor || below.contains(&target) => Ok(()),
            Some(target) => Err(format!("{floor} must not import {target}")),
        }
    }
}

/// All paths that begin with `crate`, `self` or `super`, in a file whose module lies `depth` below the root.
fn paths(tokens: &[Token], depth: usize) -> Vec<ModulePath> {
    let mut found = Vec::new();
    let mut braces = 0_usize;
    // The braces that were open where each inline module began.
    let mut inline: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if begins_path(tokens, at) {
            let line = tokens[at].line;
            let mut segments = Vec::new();
            at = tree(tokens, at, &Vec::new(), &mut segments);
            let depth = depth + inline.len();
            found.extend(segments.into_iter().map(|segments| ModulePath { line, segments, depth }));
            continue;
        }
        match &*tokens[at].text {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" && tokens[at - 1].is_name() {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn begins_path(tokens: &[Token], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| &*token.text);
    let is_root = matches!(text(at), "crate" | "self" | "super");
    let is_first = at == 0 || text(at - 1) != "::";
    is_root && is_first && matches!(text(at + 1), "::" | "as")
}

/// Reads a use tree or a plain path at `at`; appends its paths with `prefix` before them, returns where it ends.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| &*token.text);
    let mut path = prefix.to_vec();
    loop {
        match text(at) {
            "{" => return group(tokens, at + 1, &path, found),
            "*" => {
                path.push("*".to_owned());
                at += 1;
                break;
            }
            name if tokens.get(at).is_some_and(Token::is_name) => {
                path.push(name.to_owned());
                at += 1;
            }
            _ => break, // `::<` and the like: the path has ended.
        }
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if text(at) == "as" {
        at += 2;
    }
    found.push(path);
    at
}

/// Reads what is left of a use group, behind its opening brace.
fn group(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    while at < tokens.len() {
        match &*tokens[at].text {
            "}" => return at + 1,
            "," | "::" => at += 1,
            _ => {
                let end = tree(tokens, at, prefix, found);
                at = end.max(at + 1);
            }
        }
    }
    at
}

/// A name, a `::`, or one character of anything else; comments and literals are gone.
#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(begins_name)
    }
}

fn begins_name(letter: char) -> bool {
    letter == '_' || letter.is_alphabetic()
}

fn continues_name(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let mut len = nothing(rest);
        if len == 0 {
            len = match first {
                ':' if rest.starts_with("::") => 2,
                _ if begins_name(first) => rest.find(|letter| !continues_name(letter)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            tokens.push(Token { line, text: rest[..len].to_owned() });
        }
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// Length of the white space, comment, literal, number or lifetime at the front; 0 if there is none.
fn nothing(rest: &str) -> usize {
    let first = rest.chars().next().unwrap_or(' ');
    let end_of = |end: Option<usize>| end.unwrap_or(rest.len());
    if first.is_whitespace() {
        return first.len_utf8();
    }
    if rest.starts_with("//") {
        return end_of(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if first.is_ascii_digit() {
        return end_of(rest.find(|letter| !continues_name(letter)));
    }
    // `b`, `c` and `r` belong to the literal that follows without a gap; `r#name` is a name.
    let prefix = end_of(rest.find(|letter| !continues_name(letter)));
    let (raw, literal) = match &rest[..prefix] {
        "r" | "br" | "cr" => (true, &rest[prefix..]),
        "b" | "c" => (false, &rest[prefix..]),
        "" => (false, rest),
        _ => return 0,
    };
    let prefix = rest.len() - literal.len();
    let hashes = literal.len() - literal.trim_start_matches('#').len();
    if raw && literal[hashes..].starts_with('"') {
        let inside = &literal[hashes + 1..];
        let end = format!("\"{}", "#".repeat(hashes));
        return end_of(inside.find(&end).map(|at| prefix + hashes + 1 + at + end.len()));
    }
    if raw && hashes == 1 {
        return prefix + hashes; // The name that follows is a token.
    }
    match literal.chars().next() {
        Some('"') => prefix + quoted(literal),
        Some('\'') => prefix + letter_or_lifetime(literal),
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let mut open = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (open, at) = (open + 1, at + 2),
            [b'*', b'/', ..] => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            break;
        }
    }
    at
}

/// Length of the literal that begins with a quote mark and ends with the next one that is not escaped.
fn quoted(rest: &str) -> usize {
    let mark = rest.as_bytes()[0];
    let mut at = 1;
    while at < rest.len() {
        match rest.as_bytes()[at] {
            b'\\' => at += 1,
            byte if byte == mark => return at + 1,
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

fn letter_or_lifetime(rest: &str) -> usize {
    let mut letters = rest.char_indices().skip(1);
    let (first, second) = (letters.next(), letters.next());
    if first.is_some_and(|(_, letter)| letter == '\\') || second.is_some_and(|(_, letter)| letter == '\'') {
        return quoted(rest);
    }
    rest[1..].find(|letter| !continues_name(letter)).map_or(rest.len(), |at| 1 + at)
}

/// The scanner must be able to fail, so it is tried on small sources.
mod scanner {
    use super::*;

    #[track_caller]
    fn accepts(path: &str, text: &str) {
        assert_eq!(violations(path, text), [""; 0], "{text}");
    }

    #[track_caller]
    fn refuses(path: &str, text: &str, expected: &str) {
        assert_eq!(violations(path, text), [format!("{path}:{expected}")], "{text}");
    }

    #[test]
    fn imports_down_pass_and_imports_up_do_not() {
        accepts("src/session/mod.rs", "use crate::wire::Frame;\npub use crate::time::Instant;");
        accepts("src/session/close.rs", "use crate::session::Session;");
        refuses("src/session/mod.rs", "\nuse crate::pattern::Server;", "2: session must not import pattern");
        refuses("src/wire/mod.rs", "pub use crate::time::Duration;", "1: wire must not import time");
        refuses("src/trader/mod.rs", "pub(crate) use crate::net::Driver;", "1: trader must not import net");
        refuses("src/rpc/server.rs", "use crate::wire::Frame;", "1: rpc must not import wire");
        refuses("src/time.rs", "use crate::wire::Frame;", "1: time must not import wire");
    }

    #[test]
    fn every_pair_of_floors_is_decided_by_the_table() {
        for (from, below) in HOUSE {
            for (to, _) in HOUSE {
                let found = violations(&format!("src/{from}/x.rs"), &format!("use crate::{to}::X;"));
                assert_eq!(found.is_empty(), from == to || below.contains(&to), "{from} imports {to}");
            }
        }
    }

    #[test]
    fn groups_are_taken_apart() {
        accepts("src/session/mod.rs", "use crate::{time::{Duration, Instant}, wire::{self, Frame as F}};");
        let text =
            "use crate::{\n    time::Instant,\n    wire::{Frame, lists::*},\n    net::{self, clock},\n};";
        let found = violations("src/session/mod.rs", text);
        assert_eq!(
            found, ["src/session/mod.rs:1: session must not import net"; 2],
            "net itself and net::clock"
        );
        refuses("src/wire/mod.rs", "use {crate::net::X, core::fmt};", "1: wire must not import net");
    }

    #[test]
    fn paths_outside_of_use_are_imports_too() {
        refuses("src/wire/mod.rs", "fn f(x: &crate::net::X) {}", "1: wire must not import net");
        refuses("src/wire/mod.rs", "fn f() { g::<crate::rpc::X>() }", "1: wire must not import rpc");
        let text = "type X = crate::wire::Y<crate::rpc::Z>;";
        refuses("src/wire/mod.rs", text, "1: wire must not import rpc");
        refuses(
            "src/wire/mod.rs",
            "macro_rules! m { () => { $crate::net::x!() } }",
            "1: wire must not import net",
        );
        accepts("src/net/mod.rs", "pub(crate) fn f() { crate::session::g() }\npub(in crate::net) struct S;");
    }

    #[test]
    fn tests_are_not_exempt() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::pattern::Server;\n}";
        refuses("src/session/mod.rs", text, "3: session must not import pattern");
    }

    #[test]
    fn whole_crate_and_names_at_its_root_are_refused() {
        refuses("src/wire/mod.rs", "use crate::*;", "1: wire takes hold of the whole crate");
        refuses("src/wire/mod.rs", "use crate::{self as root};", "1: wire takes hold of the whole crate");
        refuses("src/wire/mod.rs", "use crate as root;", "1: wire takes hold of the whole crate");
        refuses("src/net/mod.rs", "use crate::Error;", "1: net must not import Error");
        refuses("src/net/mod.rs", "use crate::fuzz::decoder;", "1: net must not import fuzz");
    }

    #[test]
    fn super_may_climb_on_its_floor_and_not_out_of_it() {
        accepts("src/wire/lists.rs", "use super::{TooLong, frame::Frame};");
        accepts("src/wire/lists.rs", "mod tests { use super::*; use super::super::TooLong; }");
        accepts("src/wire/a/b.rs", "use super::super::TooLong;");
        accepts("src/wire/mod.rs", "use self::lists::Ids; fn f(self) { self.0 }");
        accepts("src/wire/mod.rs", "mod tests { mod deep { use super::super::*; } use super::X; }");
        refuses(
            "src/wire/mod.rs",
            "use super::time::Instant;",
            "1: super::time::Instant leaves wire by super",
        );
        refuses(
            "src/wire/lists.rs",
            "super::super::time::f()",
            "1: super::super::time::f leaves wire by super",
        );
        refuses("src/wire/mod.rs", "use self::super::net;", "1: self::super::net leaves wire by super");
        refuses("src/wire/mod.rs", "use super as root;", "1: super leaves wire by super");
        refuses("src/time.rs", "use super::wire;", "1: super::wire leaves time by super");
        let text = "mod a { use super::x; } fn f() { if a { b } } mod c { use super::super::net; }";
        refuses("src/wire/mod.rs", text, "1: super::super::net leaves wire by super");
        let text = "use super::{a, super::net::X};";
        refuses("src/wire/lists.rs", text, "1: super::super::net::X leaves wire by super");
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = r####"
            //! use crate::net::X; std::thread
            // use crate::net::X;
            /* use crate::net::X; /* nested */ std */
            const A: &str = "use crate::net::X; \" std::net";
            const B: &str = r#"crate::net::X " std"#;
            const C: &[u8] = b"std::net"; const D: char = '"'; const E: u8 = b'\'';
            const F: &str = "std"; // crate::rpc
            fn f<'std>(x: &'std str) -> char { 'x' }
            #[cfg(feature = "std")] const G: &[u8] = br##"std"# crate::net"##;
        "####;
        accepts("src/wire/mod.rs", text);
        let text = "const A: char = '\"'; use crate::net::X; const B: char = '\"';";
        refuses("src/wire/mod.rs", text, "1: wire must not import net");
        refuses("src/wire/mod.rs", "/* /* */ */ use crate::net::X;", "1: wire must not import net");
        refuses(
            "src/wire/mod.rs",
            "fn f<'a>(x: &'a str) { crate::net::x('a') }",
            "1: wire must not import net",
        );
        refuses("src/wire/mod.rs", r##"f(r"\", crate::net::x(), "x")"##, "1: wire must not import net");
        refuses("src/wire/mod.rs", "use crate::r#net::X;", "1: wire must not import net");
    }

    #[test]
    fn clocks_sockets_and_threads_are_refused_below_net() {
        refuses("src/session/mod.rs", "use std::vec::Vec;", "1: std below net");
        refuses("src/pattern/mod.rs", "extern crate std;", "1: std below net");
        refuses("src/pattern/mod.rs", "let now = Instant::now();", "1: Instant::now below net");
        refuses("src/wire/mod.rs", "let x: UdpSocket;", "1: UdpSocket below net");
        refuses("src/wire/mod.rs", "let x: TcpStream;", "1: TcpStream below net");
        refuses("src/wire/mod.rs", "thread_local!()", "1: thread_local below net");
        refuses("src/wire/mod.rs", "const MAX_SOCKETS: u8 = 1;", "1: MAX_SOCKETS below net");
        accepts("src/pattern/mod.rs", "use core::net::SocketAddr; fn f(now: Instant) { threaded(now) }");
        accepts("src/net/driver.rs", "use std::thread; use socket2::Socket; let now = Instant::now();");
    }

    #[test]
    fn exempt_tests_may_use_std_and_still_import_by_the_table() {
        accepts("src/pattern/log/tests.rs", "extern crate std; let begun = std::time::Instant::now();");
        refuses("src/pattern/log/tests.rs", "use crate::net::X;", "1: pattern must not import net");
        refuses("src/pattern/other/tests.rs", "extern crate std;", "1: std below net");
        assert_eq!(untested_tests(&tokens("#[cfg(test)]\nmod tests;")), [0; 0]);
        assert_eq!(untested_tests(&tokens("\nmod tests;")), [2]);
    }

    #[test]
    fn wall_clock_is_asked_in_two_files() {
        accepts("src/net/clock.rs", "use std::time::SystemTime;");
        accepts("src/trader/timestamp.rs", "use std::time::SystemTime;");
        let expected = "1: SystemTime outside src/net/clock.rs and src/trader/timestamp.rs";
        refuses("src/trader/event.rs", "use std::time::SystemTime;", expected);
        refuses("src/net/driver.rs", "use std::time::SystemTime;", expected);
        refuses("src/lib.rs", "use std::time::SystemTime;", expected);
        refuses("src/wire/mod.rs", "SystemTime::now()", expected);
    }

    #[test]
    fn folder_that_is_no_floor_is_refused() {
        refuses("src/util/mod.rs", "", "1: util is no floor of the house");
        refuses("src/helpers.rs", "", "1: helpers is no floor of the house");
        accepts("src/fuzz.rs", "use crate::wire::Frame; use crate::pattern::Server;");
        accepts("src/lib.rs", "extern crate std; pub mod wire; pub use crate::rpc::RpcServer;");
    }

    #[test]
    fn ways_around_are_refused() {
        refuses("src/wire/mod.rs", "#[path = \"../net/x.rs\"] mod x;", "1: #[path] hides where a module is");
        refuses("src/wire/mod.rs", "include!(\"../net/x.rs\");", "1: include! hides where code is from");
        accepts("src/wire/mod.rs", "include_str!(\"mod.rs\")");
        let expected = "1: extern crate self opens a way around the table";
        refuses("src/lib.rs", "extern crate self as pulsewire;", expected);
    }
}
