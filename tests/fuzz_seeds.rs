//! Every seed under `fuzz/seeds/<target>/` goes through the body of its target, so that what a fuzzer once found
//! stays found without one.

use std::fs;
use std::path::{Path, PathBuf};

type Body = fn(&[u8]);

/// The bodies by the names of their targets.
const BODIES: [(&str, Body); 3] = [
    ("decoder", pulsewire::fuzz::decoder),
    ("operations", pulsewire::fuzz::operations),
    ("session", pulsewire::fuzz::session),
];

fn body_of(target: &str) -> Option<Body> {
    BODIES.iter().find(|(name, _)| *name == target).map(|(_, body)| *body)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("our own files have plain names")
}

#[test]
fn every_seed_passes_through_the_body_of_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        eprintln!("skipped: the published package comes without fuzz/");
        return;
    }
    let folders = entries(&fuzz.join("seeds"));
    for folder in &folders {
        let target = name(folder);
        let body = body_of(target).unwrap_or_else(|| panic!("no body is registered for {target}"));
        let seeds = entries(folder);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for seed in seeds {
            // Captured, and shown by the harness only if the body panics.
            println!("{target}/{}", name(&seed));
            body(&fs::read(&seed).unwrap());
        }
    }
    for (target, _) in BODIES {
        assert!(folders.iter().any(|folder| name(folder) == target), "{target} has no seeds");
        assert!(fuzz.join("fuzz_targets").join(target).with_extension("rs").exists(), "{target} has no shim");
    }
}

#[test]
fn unknown_target_has_no_body() {
    assert!(body_of("decoder").is_some());
    assert!(body_of("no-such-target").is_none());
}
