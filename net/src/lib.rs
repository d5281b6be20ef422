//! The tokio shell of Mainspring.
