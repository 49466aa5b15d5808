//! The books of the calls: how each ended for its caller, and how often the server executed it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pulsewire::{CallError, FailureKind};

/// The server's own record of what it executed: a line for each, written before the call is answered.
pub struct Journal(File);

impl Journal {
    /// Goes on behind what earlier lives of the server wrote.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).open(path).map(Journal)
    }

    /// In the system's hands when this returns: killing the process does not undo it. One system call, so that lines
    /// of several threads do not mix.
    pub fn append(&self, id: u64) -> io::Result<()> {
        (&self.0).write_all(format!("{id}\n").as_bytes())
    }

    /// How often each call was executed.
    pub fn read(path: &Path) -> HashMap<u64, u32> {
        let mut executions = HashMap::new();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
        for line in text.lines() {
            *executions.entry(line.parse().unwrap()).or_default() += 1;
        }
        executions
    }
}

/// A journal's file, for as long as it is needed.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        Scratch(std::env::temp_dir().join(format!("pulsewire-cuts-{}.journal", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Value,
    /// The function ran and said no, or gave no answer.
    Failed,
    /// There is no such function.
    NoFunction,
    NotExecuted,
    ResultNotKept,
    Unknown,
}

impl Ending {
    /// Which of the five ways it is; the text says why it is none.
    pub fn of<T>(result: &Result<T, CallError>) -> Result<Self, String> {
        match result {
            Ok(_) => Ok(Ending::Value),
            Err(CallError::Failed(failure)) => match failure.kind {
                FailureKind::Function | FailureKind::Dropped => Ok(Ending::Failed),
                FailureKind::UnknownFunction => Ok(Ending::NoFunction),
                _ => Err(format!("{failure:?}")),
            },
            Err(CallError::NotExecuted(_)) => Ok(Ending::NotExecuted),
            Err(CallError::ResultNotKept) => Ok(Ending::ResultNotKept),
            Err(CallError::Unknown(_)) => Ok(Ending::Unknown),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    /// Whether a call that ended so may have been executed so often. An idempotent one may run again after a loss.
    fn allows(self, executions: u32, idempotent: bool) -> bool {
        match self {
            Ending::Value | Ending::Failed | Ending::ResultNotKept => {
                executions == 1 || (idempotent && executions > 1)
            }
            Ending::NoFunction | Ending::NotExecuted => executions == 0,
            Ending::Unknown => executions <= 1 || idempotent,
        }
    }
}

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub id: u64,
    pub ending: Ending,
    pub idempotent: bool,
}

/// What the calls come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    pub calls: u64,
    pub values: u64,
    pub failed: u64,
    pub not_executed: u64,
    pub results_not_kept: u64,
    pub unknown: u64,
    /// Those of the unknown ones that were executed.
    pub unknown_executed: u64,
    /// Idempotent ones that were executed more than once, as their callers allowed.
    pub repeated: u64,
    /// Others that were.
    pub doubled: u64,
    /// What does not go together, doubled ones included.
    pub wrong: Vec<String>,
}

impl Balance {
    /// Compares what the callers were told with the journal.
    pub fn of(ended: &[Ended], executions: &HashMap<u64, u32>) -> Self {
        let mut balance = Balance::default();
        let mut told = HashSet::new();
        for call in ended {
            if !told.insert(call.id) {
                balance.wrong.push(format!("{call:?} has ended before"));
            }
            balance.count(call, executions.get(&call.id).copied().unwrap_or(0));
        }
        let untold = executions.keys().filter(|id| !told.contains(id));
        balance.wrong.extend(untold.map(|id| format!("call {id} was executed and never ended")));
        balance
    }

    fn count(&mut self, call: &Ended, times: u32) {
        self.calls += 1;
        match call.ending {
            Ending::Value => self.values += 1,
            Ending::Failed | Ending::NoFunction => self.failed += 1,
            Ending::NotExecuted => self.not_executed += 1,
            Ending::ResultNotKept => self.results_not_kept += 1,
            Ending::Unknown => {
                self.unknown += 1;
                self.unknown_executed += u64::from(times > 0);
            }
        }
        if times > 1 {
            *(if call.idempotent { &mut self.repeated } else { &mut self.doubled }) += 1;
        }
        if !call.ending.allows(times, call.idempotent) {
            self.wrong.push(format!("{call:?} was executed {times} times"));
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls = {} with a value + {} failed + {} not executed + {} results not kept + {} unknown ({} of them \
             executed); {} idempotent ones repeated, doubled = {}",
            self.calls,
            self.values,
            self.failed,
            self.not_executed,
            self.results_not_kept,
            self.unknown,
            self.unknown_executed,
            self.repeated,
            self.doubled
        )
    }
}

mod tests {
    use super::*;

    fn balance(ending: Ending, idempotent: bool, times: u32) -> Balance {
        let executions = if times > 0 { HashMap::from([(7, times)]) } else { HashMap::new() };
        Balance::of(&[Ended { id: 7, ending, idempotent }], &executions)
    }

    #[test]
    fn each_ending_allows_what_it_says() {
        let allowed =
            |ending, idempotent| [0, 1, 2].map(|times| balance(ending, idempotent, times).wrong.is_empty());
        for ending in [Ending::Value, Ending::Failed, Ending::ResultNotKept] {
            assert_eq!(allowed(ending, false), [false, true, false], "{ending:?}");
            assert_eq!(allowed(ending, true), [false, true, true], "{ending:?}");
        }
        for ending in [Ending::NoFunction, Ending::NotExecuted] {
            assert_eq!(allowed(ending, false), [true, false, false], "{ending:?}");
            assert_eq!(allowed(ending, true), [true, false, false], "{ending:?}");
        }
        assert_eq!(allowed(Ending::Unknown, false), [true, true, false]);
        assert_eq!(allowed(Ending::Unknown, true), [true, true, true]);
        assert_eq!(
            (balance(Ending::Value, false, 2).doubled, balance(Ending::Value, true, 2).repeated),
            (1, 1)
        );
        assert_eq!(balance(Ending::Unknown, false, 1).unknown_executed, 1);
    }

    #[test]
    fn calls_that_end_twice_or_not_at_all_are_found() {
        let call = Ended { id: 7, ending: Ending::NotExecuted, idempotent: false };
        assert_eq!(Balance::of(&[call, call], &HashMap::new()).wrong.len(), 1);
        assert_eq!(Balance::of(&[call], &HashMap::from([(8, 1)])).wrong.len(), 1);
    }
}
