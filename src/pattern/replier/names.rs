//! The names of functions that are asked for, each kept once.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use crate::wire::MAX_NAME_BYTES;

/// The names of functions that are asked for, each kept once: the same few come again and again.
#[derive(Debug, Default)]
pub(in super::super) struct Names {
    last: Option<Arc<str>>,
    known: BTreeSet<Arc<str>>,
}

/// Names kept. Whoever asks for other ones all the time has them copied, and some of ours once more.
const MOST: usize = 256;

impl Names {
    /// The most memory that these can hold, in bytes.
    pub(in super::super) const CEILING_BYTES: usize = MOST * (MAX_NAME_BYTES + 64);

    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == *name) {
            return Arc::clone(last);
        }
        let name = match self.known.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                if self.known.len() >= MOST {
                    self.known.clear();
                }
                let new: Arc<str> = Arc::from(name);
                self.known.insert(Arc::clone(&new));
                new
            }
        };
        self.last = Some(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_name_is_kept_once_and_strangers_do_not_pile_up() {
        let mut names = Names::default();
        let add = names.intern("add");
        names.intern("sub");
        assert!(Arc::ptr_eq(&add, &names.intern("add")));
        for n in 0..10 * MOST {
            assert_eq!(*names.intern(&format!("stranger {n}")), *format!("stranger {n}"));
            assert!(names.known.len() <= MOST);
        }
    }
}
