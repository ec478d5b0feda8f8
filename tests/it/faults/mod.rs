//! The real program against real servers, with everything that goes wrong: each fault has one right answer.
//! They need an engine with the laboratory's images.

mod capture;
mod concurrency;
mod input;
mod redis;
mod restore;
mod secrets;
mod storage;
