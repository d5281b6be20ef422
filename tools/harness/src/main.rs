//! Real-process tests.
fn main() {}
