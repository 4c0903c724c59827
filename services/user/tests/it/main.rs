//! The user service on real Postgres: its API, its life as a process, its migrations.

mod access;
mod changing;
mod enumeration;
mod hostile;
mod migrations;
mod outage;
mod process;
mod refreshing;
mod rotation;
mod rules;
mod sign_in;
mod support;
mod users;
