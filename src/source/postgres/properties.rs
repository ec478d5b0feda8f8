//! What belongs to a database rather than to its contents.
//!
//! Settings (`ALTER DATABASE … SET`, and per role in this database), grants on the database, its
//! comment, connection limit and owner are replayed by `pg_restore` only with `--create`, and then
//! under the old name. So they are read in the dump's own snapshot, kept in the facts, and put on the
//! restored database by SQL.

use super::quote::{identifier, literal};
use super::session::Session;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The properties of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// The owner.
    pub owner: String,
    /// The encoding's name: `UTF8`.
    pub encoding: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin, PostgreSQL 17).
    pub locale_provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The ICU or builtin locale.
    pub locale: Option<String>,
    /// The most connections; -1 for no limit.
    pub connection_limit: i32,
    /// The comment.
    pub comment: Option<String>,
    /// Who may do what; `None` where nobody ever granted or revoked anything.
    pub grants: Option<Vec<Grant>>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<Setting>,
    /// The extensions with their versions.
    pub extensions: Vec<Extension>,
    /// Tablespace; restored into the default one where the target has none of this name.
    pub tablespace: String,
    /// The roles that own something in it or are granted something, policies and default privileges included.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// One privilege on the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who has it; `None` is everybody.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE`, `TEMPORARY`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// One setting of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The role that it is for; `None` for all.
    pub role: Option<String>,
    /// The parameter.
    pub name: String,
    /// Its value, as the catalog holds it.
    pub value: String,
}

/// An extension of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Settings that PostgreSQL keeps as lists: their value is already a list of quoted names
/// (`variable_is_guc_list_quote` in `pg_dump`'s dumputils.c) and must not be quoted again as one text.
const LISTS: [&str; 5] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
];

/// lifeboat's own marks on kept and half-made databases are not properties of the person's data.
pub(super) const MARK_PREFIX: &str = "lifeboat.";

/// Reads the properties of the session's own database.
pub(super) async fn read(session: &Session) -> Result<Properties> {
    // Columns that differ between versions are read through the row's JSON: daticulocale came with
    // 15 and became datlocale in 17, datlocprovider came with 15.
    let row = session
        .query_one(
            "select r.rolname::text, pg_encoding_to_char(d.encoding)::text, \
                    coalesce(to_jsonb(d)->>'datlocprovider', 'c'), d.datcollate::text, d.datctype::text, \
                    coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), \
                    d.datconnlimit, shobj_description(d.oid, 'pg_database'), t.spcname::text, d.datacl is null \
             from pg_database d join pg_roles r on r.oid = d.datdba join pg_tablespace t on t.oid = d.dattablespace \
             where d.datname = current_database()",
            &[],
        )
        .await?;
    let grants = if row.get::<_, bool>(9) {
        None
    } else {
        let rows = session
            .query(
                "select g.rolname::text, a.privilege_type, a.is_grantable \
                 from pg_database d, aclexplode(d.datacl) a left join pg_roles g on g.oid = a.grantee \
                 where d.datname = current_database() order by 1 nulls first, 2",
                &[],
            )
            .await?;
        Some(
            rows.iter()
                .map(|row| Grant {
                    grantee: row.get(0),
                    privilege: row.get(1),
                    grantable: row.get(2),
                })
                .collect(),
        )
    };
    let settings = session
        .query(
            "select r.rolname::text, c.entry from pg_db_role_setting s \
             join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole, \
             unnest(s.setconfig) with ordinality c(entry, position) \
             where d.datname = current_database() order by 1 nulls first, c.position",
            &[],
        )
        .await?;
    let extensions = session
        .query(
            "select extname::text, extversion from pg_extension order by 1",
            &[],
        )
        .await?;
    // The bootstrap superuser (10) is pinned: nothing is said to depend on it, whatever it owns.
    let roles = session
        .query(
            "select r.rolname::text from pg_roles r \
             where r.oid in (select s.refobjid from pg_shdepend s join pg_database d on d.oid = s.dbid \
                             where s.refclassid = 'pg_authid'::regclass and d.datname = current_database()) \
                or r.oid = 10 and exists ( \
                   select from pg_class c where c.relowner = 10 and c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') \
                   and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')) \
             order by 1",
            &[],
        )
        .await?;
    Ok(Properties {
        owner: row.get(0),
        encoding: row.get(1),
        locale_provider: row.get(2),
        collate: row.get(3),
        ctype: row.get(4),
        locale: row.get(5),
        connection_limit: row.get(6),
        comment: row.get(7),
        tablespace: row.get(8),
        roles: roles.iter().map(|row| row.get(0)).collect(),
        grants,
        settings: settings
            .iter()
            .filter_map(|row| {
                let entry: &str = row.get(1);
                let (name, value) = entry.split_once('=')?;
                (!name.starts_with(MARK_PREFIX)).then(|| Setting {
                    role: row.get(0),
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            })
            .collect(),
        extensions: extensions
            .iter()
            .map(|row| Extension {
                name: row.get(0),
                version: row.get(1),
            })
            .collect(),
    })
}

impl Properties {
    /// Makes an empty database like this one, under another name.
    pub(super) fn create_statement(&self, name: &str) -> String {
        let mut sql = format!(
            "create database {} template template0 owner {} encoding {} lc_collate {} lc_ctype {}",
            identifier(name),
            identifier(&self.owner),
            literal(&self.encoding),
            literal(&self.collate),
            literal(&self.ctype),
        );
        match (self.locale_provider.as_str(), &self.locale) {
            ("i", Some(locale)) => {
                sql.push_str(" locale_provider icu icu_locale ");
                sql.push_str(&literal(locale));
            }
            ("b", Some(locale)) => {
                sql.push_str(" locale_provider builtin builtin_locale ");
                sql.push_str(&literal(locale));
            }
            _ => {}
        }
        sql
    }

    /// The statements that put everything but owner and encoding on the database `name`.
    pub(super) fn apply_statements(&self, name: &str) -> Vec<String> {
        let database = identifier(name);
        let mut statements = Vec::new();
        if let Some(comment) = &self.comment {
            statements.push(format!(
                "comment on database {database} is {}",
                literal(comment)
            ));
        }
        if self.connection_limit != -1 {
            statements.push(format!(
                "alter database {database} connection limit {}",
                self.connection_limit
            ));
        }
        if let Some(grants) = &self.grants {
            // A fresh database grants CONNECT and TEMPORARY to everybody, and all to its owner.
            statements.push(format!("revoke all on database {database} from public"));
            statements.push(format!(
                "revoke all on database {database} from {}",
                identifier(&self.owner)
            ));
            for grant in grants {
                let grantee = grant
                    .grantee
                    .as_deref()
                    .map_or("public".to_owned(), identifier);
                let option = if grant.grantable {
                    " with grant option"
                } else {
                    ""
                };
                statements.push(format!(
                    "grant {} on database {database} to {grantee}{option}",
                    grant.privilege
                ));
            }
        }
        for setting in &self.settings {
            let value = if LISTS.contains(&setting.name.to_ascii_lowercase().as_str()) {
                list_value(&setting.value)
            } else {
                literal(&setting.value)
            };
            let parameter = setting
                .name
                .split('.')
                .map(identifier)
                .collect::<Vec<_>>()
                .join(".");
            statements.push(match &setting.role {
                None => format!("alter database {database} set {parameter} to {value}"),
                Some(role) => format!(
                    "alter role {} in database {database} set {parameter} to {value}",
                    identifier(role)
                ),
            });
        }
        statements
    }

    /// The roles that must exist before this database can be made and granted.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let grantees = self
            .grants
            .iter()
            .flatten()
            .filter_map(|grant| grant.grantee.as_deref());
        let settings = self
            .settings
            .iter()
            .filter_map(|setting| setting.role.as_deref());
        std::iter::once(self.owner.as_str())
            .chain(self.roles.iter().map(String::as_str))
            .chain(grantees)
            .chain(settings)
    }
}

/// `"$user", public` as SET takes it: each element a literal of its own. An element that is quoted in
/// the catalog may hold commas and doubled quotes.
fn list_value(value: &str) -> String {
    let mut elements = Vec::new();
    let mut element = String::new();
    let mut quoted = false;
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                element.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => elements.push(std::mem::take(&mut element)),
            ' ' if !quoted => {}
            other => element.push(other),
        }
    }
    elements.push(element);
    elements
        .iter()
        .map(|element| literal(element))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_quoted_element_by_element() {
        assert_eq!(list_value("\"$user\", public"), "'$user', 'public'");
        assert_eq!(list_value("\"a,\"\"b\", c"), "'a,\"b', 'c'");
        assert_eq!(list_value(""), "''");
    }
}
