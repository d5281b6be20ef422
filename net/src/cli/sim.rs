//! `mainspring sim`: the simulator's own commands, handed over as they stand.

/// Words of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the simulator is to do; `mainspring sim help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Runs the command and returns its exit code.
pub(crate) fn run(args: Args) -> u8 {
    u8::try_from(mainspring_sim::cli::main(args.words)).unwrap_or(1)
}
