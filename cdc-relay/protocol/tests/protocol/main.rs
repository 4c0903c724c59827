//! The reader against what a real server sent, and against what no server would send.

mod golden;
mod hostile;
mod sessions;
