//! The whole path of a request, from a client's bytes to the event and the answer.

mod agent;
mod hostile;
mod reading;
mod watching;
mod writers;
