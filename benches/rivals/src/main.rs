//! pulsewire, bare TCP, bare mio and other messaging libraries, side by side in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- --quick
//! ```
//!
//! The program starts itself anew as two processes for each measurement, the server's side and the client's, and pins
//! them: to a core each (*split*) or both to the same one (*one*). All peers of a case are measured one after the other
//! within a repetition, in an order that rotates, and ratios are formed inside a repetition before the median is taken:
//! what the rest of the machine does in that minute is then the same for all of them.
//!
//! ```text
//! options   what was asked for
//! plan      which cases, sizes, placements and peers that is
//! pair      two processes, the words between them, and a deadline for both
//! side      one such process: its core, its words, its usage
//! cases     what is done and measured: calls, publications, idle connections
//! peers     the same few verbs for each library
//! report    goals, verdicts, tables, plots
//! ```

mod cases;
mod framing;
mod idle;
mod machine;
mod options;
mod pair;
mod peers;
mod plan;
mod report;
mod side;
mod statistics;
mod strace;
mod usage;

use std::process::ExitCode;

/// Whatever goes wrong in a benchmark ends that measurement and is printed; nobody reacts to its kind.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    let result = match side::Role::of_this_process() {
        Some(role) => side::play(role),
        None => options::parse().and_then(plan::run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}
