//! The tokio shell of Mainspring.
pub mod disk;
#[cfg(test)]
mod test_support;
