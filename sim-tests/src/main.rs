//! The simulator as a small binary of its own, so that a change of core builds little else.

fn main() {
    std::process::exit(mainspring_sim::cli::main(std::env::args().skip(1).collect()));
}
