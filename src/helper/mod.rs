//! What lifeboat does beside a volume: the same program, in a container of nothing but itself.
//!
//! A volume's files are on the engine's machine, which may be another one; no image of somebody else's is pulled
//! for reaching them. lifeboat imports its own executable as an image, runs it next to the mounted volume, and
//! the two speak in frames over standard input and output.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`bundle`] | what the image is made of: the executable, and the libraries that it runs with |
//! | [`protocol`] | the frames, the requests and the answers |
//! | `serve` | the helper's side: takes a request, does it, proves its end |
//! | `work` | each request's work, on folders that are mounted |
//! | `place` | puts a tree in the place of another, and back |
//! | `measure` | how much is in a tree |

pub mod bundle;
mod measure;
mod place;
pub mod protocol;
mod serve;
mod work;

pub use serve::serve;

/// The argument that makes this program a helper: no command of a person's.
pub const ARGUMENT: &str = "helper-serve";
