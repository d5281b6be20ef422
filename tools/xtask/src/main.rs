//! One door to what a developer runs.
fn main() {}
