//! The `mainspring` command.

#[cfg(not(madsim))]
use std::process::ExitCode;

#[cfg(not(madsim))]
fn main() -> ExitCode {
    ExitCode::from(mainspring_net::cli::main(std::env::args_os()))
}

/// The simulator's runtime has no command line.
#[cfg(madsim)]
fn main() {}
