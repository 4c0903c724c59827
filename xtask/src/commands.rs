//! What `cargo xtask` can do: one module each, named as the command is.

pub mod bench;
pub mod chaos;
pub mod contract;
pub mod down;
pub mod fuzz;
pub mod generate;
pub mod logs;
pub mod simulate;
pub mod status;
pub mod test;
pub mod tidy;
pub mod token;
pub mod up;
