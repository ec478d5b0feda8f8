//! PostgreSQL: dumps in the custom format by the container's own `pg_dump`, restored beside and swapped.

pub mod archive;
mod carry;
mod compare;
mod dump;
mod globals;
mod load;
mod parallel;
mod properties;
mod prove;
mod quote;
mod recognise;
mod server;
mod session;
mod swap;
mod tables;

pub use compare::Differences;
pub use dump::{Capture, DUMP_MEDIA_TYPE, DatabaseFacts, GLOBALS_MEDIA_TYPE, database_facts};
pub use globals::{Replay, ScriptRoles, about_role, missing_roles};
pub use load::Part;
pub use parallel::{List, Phases, Worker, phases};
pub use properties::{Extension, Grant, Properties, Setting};
pub use prove::IndexCheck;
pub use recognise::{data_folders, is_postgres, might_be_postgres};
pub use server::{Database, Server, Survey};
pub use session::Session;
pub use swap::{Marked, Role, derived_name, drop_database, marked, set_aside, swap};
pub use tables::{OfTables, Relation, of_tables};
