//! Tests with real processes: kills, power cuts, client programs, mutants, benchmarks.
fn main() {}
