//! The gateway against a real Kafka: what a subscriber is promised, and what a process has to do.

mod caller;
mod drain;
mod outage;
mod page;
mod process;
mod resume;
mod retention;
mod rules;
mod slow;
mod start;
mod support;
mod taint;
mod visibility;
