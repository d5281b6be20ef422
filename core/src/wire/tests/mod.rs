//! Families of claims about the codec; those about one file stand beside it.

pub mod entropy;
mod frames;
pub(crate) mod golden;
mod hostile;
mod properties;
