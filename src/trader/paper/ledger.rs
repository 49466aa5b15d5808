//! The file that an exchange remembers by: one JSON object a line, only ever appended to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use serde::de::DeserializeOwned;
use serde::Serialize;

use super::entry::{LedgerEntry, Terms};
use super::exchange::{Exchange, Inconsistency};

/// The format that is written and read.
pub(super) const VERSION: u32 = 1;

/// Why a ledger cannot be opened, or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The system says no.
    #[error("cannot open the ledger {path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another exchange has it open.
    #[error("the ledger {path} is in use", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line that was written to its end is none that this version writes.
    #[error("line {line} of the ledger {path}: {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A line does not go together with those before it, or with the contracts of the exchange.
    #[error("line {line} of the ledger {path}: {problem}", path = path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: u64,
        /// What is wrong with it.
        problem: Inconsistency,
    },
}

/// What a ledger says, see [`read_ledger`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LedgerContent {
    /// The terms of its account; `None` if not even they were written to the end.
    pub terms: Option<Terms>,
    /// All that has happened, in this order.
    pub entries: Vec<LedgerEntry>,
    /// Bytes behind the last whole line: a process was killed while it wrote them. They count for nothing.
    pub torn_bytes: u64,
}

/// Reads the ledger of a [`PaperExchange`](super::PaperExchange), for whoever wants to compare with it. It may be in use:
/// then it is read as far as it has come.
///
/// # Errors
/// The file cannot be read, or holds a line that is none.
pub fn read_ledger(path: impl AsRef<Path>) -> Result<LedgerContent, LedgerError> {
    let path = path.as_ref();
    let io = |error| LedgerError::Io { path: path.into(), error };
    let mut lines = Lines::new(path, BufReader::new(File::open(path).map_err(io)?));
    let terms = lines.next_parsed()?;
    let mut entries = Vec::new();
    while let Some(entry) = lines.next_parsed()? {
        entries.push(entry);
    }
    Ok(LedgerContent { terms, entries, torn_bytes: lines.torn_bytes })
}

/// Where entries are written.
#[derive(Debug)]
pub(super) enum Ledger {
    /// Nowhere: they are forgotten with the process.
    Memory,
    File(LedgerFile),
}

/// Why a line was not written.
#[derive(Debug)]
pub(super) struct AppendError {
    pub(super) error: io::Error,
    /// The line, or a part of it, may still be there, because it could not be cut off: what it says counts in the next
    /// life of the ledger if it is whole, and never if it can be cut off before.
    pub(super) may_be_there: bool,
}

/// An open ledger. The file is locked for as long as it is.
#[derive(Debug)]
pub(super) struct LedgerFile {
    file: File,
    /// Bytes up to the end of the last whole line.
    len: u64,
    syncs: bool,
    #[cfg(test)]
    fault: Fault,
}

/// What a disk is to fail at.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fault(pub(super) &'static [&'static str]);

#[cfg(test)]
impl Fault {
    fn check(self, step: &str) -> io::Result<()> {
        match self.0.contains(&step) {
            true => Err(io::Error::other("as it was told")),
            false => Ok(()),
        }
    }
}

impl LedgerFile {
    /// Opens a file, or begins one with the exchange's terms, and applies its entries to the exchange, under the terms
    /// of the file. A line that was not written to its end is cut off; says how many bytes that were.
    pub(super) fn open(
        path: &Path,
        syncs: bool,
        exchange: &mut Exchange,
    ) -> Result<(Self, u64), LedgerError> {
        let io = |error| LedgerError::Io { path: path.into(), error };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut lines = Lines::new(path, BufReader::new(&file));
        let terms: Option<Terms> = lines.next_parsed()?;
        if let Some(terms) = terms {
            exchange.restart(terms);
        }
        let mut events = Vec::new();
        while let Some(entry) = lines.next_parsed()? {
            events.clear(); // They were reported in an earlier life.
            let applied = exchange.apply(&entry, &mut events);
            let line = lines.line;
            applied.map_err(|problem| LedgerError::Inconsistent { path: path.into(), line, problem })?;
        }
        let (len, torn_bytes) = (lines.len, lines.torn_bytes);
        let mut ledger = LedgerFile {
            file,
            len,
            syncs,
            #[cfg(test)]
            fault: Fault::default(),
        };
        if torn_bytes > 0 {
            ledger.cut().map_err(io)?;
        }
        if terms.is_none() {
            ledger.append(exchange.terms()).map_err(|failed| io(failed.error))?;
        }
        Ok((ledger, torn_bytes))
    }

    /// Writes one line, whole or not at all. It is in the system's hands when this returns, so killing the process does
    /// not undo it; on the disk, if the ledger syncs.
    ///
    /// # Errors
    /// A disk that is full, for one. A part that was written is cut off again, now or before the next line; until that
    /// could be done no other line is written, and whether this one counts is not known.
    pub(super) fn append(&mut self, line: &impl Serialize) -> Result<(), AppendError> {
        let certainly_not = |error| AppendError { error, may_be_there: false };
        let mut bytes = serde_json::to_vec(line).map_err(|error| certainly_not(error.into()))?;
        bytes.push(b'\n');
        self.cut_rest().map_err(certainly_not)?; // What a failed write has left.
        match self.write(&bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(AppendError { error, may_be_there: self.cut_rest().is_err() }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        #[cfg(test)]
        self.fault.check("sync")?;
        match self.syncs {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    /// Cuts off what is behind the last whole line, if there is anything.
    fn cut_rest(&mut self) -> io::Result<()> {
        match self.file.metadata()?.len() == self.len {
            true => Ok(()),
            false => self.cut(),
        }
    }

    /// One that nothing can be written to.
    #[cfg(test)]
    pub(super) fn broken(path: &Path) -> io::Result<Self> {
        Ok(LedgerFile { file: File::open(path)?, len: 0, syncs: false, fault: Fault::default() })
    }

    /// Makes the disk fail from now on, after a line was written: at the sync, and at the cut if that is to fail too.
    #[cfg(test)]
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault = fault;
    }

    fn cut(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.fault.check("cut")?;
        self.file.set_len(self.len) // What is appended goes to the end, wherever that is.
    }
}

impl Ledger {
    pub(super) fn append(&mut self, entry: &LedgerEntry) -> Result<(), AppendError> {
        match self {
            Ledger::Memory => Ok(()),
            Ledger::File(file) => file.append(entry),
        }
    }
}

/// The whole lines of a ledger.
struct Lines<'a, R> {
    path: &'a Path,
    reader: R,
    /// The line that was read last; counts from 1.
    line: u64,
    /// Bytes up to its end.
    len: u64,
    /// Bytes behind the last whole line.
    torn_bytes: u64,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn new(path: &'a Path, reader: R) -> Self {
        Lines { path, reader, line: 0, len: 0, torn_bytes: 0 }
    }

    /// The next line; `None` at the end, and where the last line was not written to its end.
    fn next_parsed<T: DeserializeOwned + Checked>(&mut self) -> Result<Option<T>, LedgerError> {
        let mut bytes = Vec::new();
        let read = self.reader.read_until(b'\n', &mut bytes);
        let read = read.map_err(|error| LedgerError::Io { path: self.path.into(), error })? as u64;
        if bytes.pop() != Some(b'\n') {
            self.torn_bytes += read;
            return Ok(None);
        }
        self.line += 1;
        self.len += read;
        let parsed = serde_json::from_slice(&bytes).map_err(|error| error.to_string()).and_then(T::checked);
        parsed.map(Some).map_err(|problem| LedgerError::Malformed {
            path: self.path.into(),
            line: self.line,
            problem,
        })
    }
}

/// What is to be looked at beyond its shape.
trait Checked: Sized {
    fn checked(self) -> Result<Self, String>;
}

impl Checked for Terms {
    fn checked(self) -> Result<Self, String> {
        match self.version {
            VERSION => Ok(self),
            other => Err(std::format!("the format is {other}, this version reads {VERSION}")),
        }
    }
}

impl Checked for LedgerEntry {
    fn checked(self) -> Result<Self, String> {
        Ok(self)
    }
}
