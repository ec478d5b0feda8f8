//! PostgreSQL: databases as custom-format archives of the container's own `pg_dump`.

pub mod archive;
