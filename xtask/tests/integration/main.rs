//! The runner on real servers, its answers to bad starts, and the files it shares with Docker.

mod bad_starts;
mod compose;
mod native;
