//! The `reactor` program as its users run it: arguments, environment, output, exit codes.

mod auth;
mod command;
mod docs;
mod doctor;
mod script;
mod subscribe;
mod usage;
