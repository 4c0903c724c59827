

pub mod source;
