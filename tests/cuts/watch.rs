//! What all threads of the test share: how far everybody is, what went wrong, and when it is over.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Shared by all threads of the test.
#[derive(Clone)]
pub struct Watch(pub Arc<Shared>);

pub struct Shared {
    /// By caller: calls that ended with a value.
    pub served: Vec<AtomicU64>,
    /// By follower: the life of the server that its newest message is of.
    pub followed: Vec<AtomicU64>,
    /// Lives of the server whose log holds all that they publish. Entered before anything of theirs is followed, or soon
    /// after.
    pub lossless: Mutex<HashSet<u64>>,
    /// Connections that were lost.
    pub losses: AtomicU64,
    over: AtomicBool,
    /// The last life of the server, and how much was published in it.
    end: OnceLock<(u64, u64)>,
    wrong: Mutex<Vec<String>>,
}

impl Watch {
    pub fn new(callers: usize, followers: usize) -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Watch(Arc::new(Shared {
            served: zeros(callers),
            followed: zeros(followers),
            lossless: Mutex::default(),
            losses: AtomicU64::new(0),
            over: AtomicBool::new(false),
            end: OnceLock::new(),
            wrong: Mutex::default(),
        }))
    }

    /// Something went wrong that must not, whatever is cut.
    pub fn wrong(&self, what: String) {
        println!("WRONG: {what}");
        self.0.wrong.lock().unwrap().push(what);
    }

    pub fn wrongs(&self) -> Vec<String> {
        self.0.wrong.lock().unwrap().clone()
    }

    pub fn has_failed(&self) -> bool {
        !self.0.wrong.lock().unwrap().is_empty()
    }

    /// No more calls, and everybody reads as quickly as possible: when this is dropped.
    pub fn until_dropped(&self) -> Over<'_> {
        Over(self)
    }

    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::SeqCst)
    }

    /// Nothing more is published in this life of the server, the last one.
    pub fn set_end(&self, epoch: u64, published: u64) {
        self.0.end.set((epoch, published)).expect("it ends once");
    }

    pub fn end(&self) -> Option<(u64, u64)> {
        self.0.end.get().copied()
    }
}

/// Ends everybody's work when it is dropped, a panic included.
pub struct Over<'a>(&'a Watch);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wrong("a panic".into());
        }
        self.0 .0.over.store(true, Ordering::SeqCst);
    }
}
