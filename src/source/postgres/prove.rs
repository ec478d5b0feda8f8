//! What a drill asks a restored database beyond its facts: whether its indexes hold, and the person's own questions.

use super::quote::identifier;
use super::server::Server;
use super::session::Session;
use crate::error::Result;
use std::collections::BTreeSet;

/// The schema that `amcheck` is put into for as long as it is needed.
const SCHEMA: &str = "lifeboat_drill";

/// What `amcheck` said of a database's indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexCheck {
    /// How many were checked, and every row of their tables looked up in them.
    pub checked: u64,
    /// What is wrong, an index each.
    pub found: Vec<String>,
}

impl Server {
    /// Has `amcheck` read every B-tree index of a database that nobody else uses; `None` where the image does not
    /// have it.
    pub async fn check_indexes(&self, database: &str) -> Result<Option<IndexCheck>> {
        let session = self.connect(database).await?;
        // The database may be set to read only.
        session
            .execute("set session characteristics as transaction read write")
            .await?;
        let Some((schema, ours)) = amcheck(&session).await? else {
            return Ok(None);
        };
        let rows = session
            .query(
                "select c.oid, c.oid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid \
                 join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relkind = 'i' and i.indisvalid \
                 and i.indisready and c.relpersistence <> 't' and c.oid >= 16384 order by c.oid",
                &[],
            )
            .await?;
        let mut check = IndexCheck::default();
        let sql = format!(
            "select {}.bt_index_check($1::oid, true)",
            identifier(&schema)
        );
        for row in &rows {
            let (index, name): (u32, String) = (row.get(0), row.get(1));
            check.checked += 1;
            if let Err(error) = session.query(&sql, &[&index]).await {
                check.found.push(format!("index {name}: {}", error.chain()));
            }
        }
        if ours {
            session
                .execute(&format!("drop schema {} cascade", identifier(SCHEMA)))
                .await?;
        }
        Ok(Some(check))
    }

    /// The first value of what a query gives, as text; `None` where it gives no row, or null.
    pub async fn first_value(&self, database: &str, query: &str) -> Result<Option<String>> {
        let session = self.connect(database).await?;
        session.execute("set statement_timeout to '10min'").await?;
        session.first_value(query).await
    }

    /// Makes roles that can do nothing, so that what belongs to them can be restored.
    pub async fn make_placeholders(
        &self,
        session: &Session,
        wanted: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        let missing = self.missing_roles(session, wanted).await?;
        for role in &missing {
            session
                .execute(&format!("create role {}", identifier(role)))
                .await?;
        }
        Ok(missing)
    }
}

/// The schema with `amcheck` in it, and whether that was made just now.
async fn amcheck(session: &Session) -> Result<Option<(String, bool)>> {
    let installed = session
        .query(
            "select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace \
             where e.extname = 'amcheck'",
            &[],
        )
        .await?;
    if let Some(row) = installed.first() {
        return Ok(Some((row.get(0), false)));
    }
    let available = session
        .query(
            "select from pg_available_extensions where name = 'amcheck'",
            &[],
        )
        .await?;
    if available.is_empty() {
        return Ok(None);
    }
    let schema = identifier(SCHEMA);
    session
        .execute(&format!(
            "create schema {schema}; create extension amcheck schema {schema}"
        ))
        .await?;
    Ok(Some((SCHEMA.to_owned(), true)))
}
