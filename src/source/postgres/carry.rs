//! Carrying tables from a side database into the live one of the same server, into a schema of their own.
//!
//! In the side database they are cut loose from everything that stays: what is carried then names nothing of the live
//! tables, so that making it takes no lock on any of them. The way over is one transaction.

use super::quote::{conninfo, identifier, literal};
use super::server::Server;
use crate::docker::exec::Transport;
use crate::error::{Error, Result};
use std::time::Duration;

/// Nothing is printed while rows pass: this bounds the whole way, for one that hangs.
const IDLE_LIMIT: Duration = Duration::from_hours(12);

/// Tables that are carried, each with its schema and name.
type Tables<'a> = &'a [(&'a str, &'a str)];

/// Dumps the schema `$LIFEBOAT_SCHEMA` of one database into another. Plain sh has no `pipefail`: the dump ends
/// its own transaction's reader by an incomplete archive, and its status is asked for besides.
const CARRY: &str = r#"
s=$( { { pg_dump --format=custom --compress=0 --no-password --schema="$LIFEBOAT_SCHEMA" -d "$1" 4>&- || echo "d$?" >&4; } |
  { pg_restore --single-transaction --exit-on-error --no-password -d "$2" >&2 4>&- || echo "r$?" >&4; }; } 4>&1 )
[ -z "$s" ]
"#;

/// Cuts the tables of `lifeboat_moving` loose and moves them. Partitions come with their table; a foreign key stays
/// where both its ends are carried.
const CUT_LOOSE: &str = r"
do $cut$
declare
  target text := current_setting('lifeboat.target_schema');
  statement text;
begin
  -- First: what a partition has from its table becomes its own by this.
  for statement in
    select format(case when c.relispartition then 'alter table %2$s detach partition %1$s'
                       else 'alter table %1$s no inherit %2$s' end, i.inhrelid::regclass, i.inhparent::regclass)
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhrelid in (select oid from lifeboat_moving) and i.inhparent not in (select oid from lifeboat_moving)
  loop
    execute statement;
  end loop;
  for statement in
    select format('alter table %s drop constraint %I', c.conrelid::regclass, c.conname) from pg_constraint c
    where c.contype = 'f' and c.conparentid = 0
      and (c.conrelid in (select oid from lifeboat_moving)) <> (c.confrelid in (select oid from lifeboat_moving))
    union all
    select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_trigger t
    where t.tgrelid in (select oid from lifeboat_moving) and not t.tgisinternal
      and coalesce((to_jsonb(t) ->> 'tgparentid')::bigint, 0) = 0
    union all
    select format('drop rule %I on %s', r.rulename, r.ev_class::regclass) from pg_rewrite r
    where r.ev_class in (select oid from lifeboat_moving)
    union all
    select format('drop policy %I on %s', p.polname, p.polrelid::regclass) from pg_policy p
    where p.polrelid in (select oid from lifeboat_moving)
    union all
    select format('alter publication %I drop table %s', p.pubname, r.prrelid::regclass)
    from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
    where r.prrelid in (select oid from lifeboat_moving)
    union all
    select format('alter table %s disable row level security, no force row level security', m.oid::regclass)
    from lifeboat_moving m
    union all
    -- A default that draws from a sequence of somebody else would draw from the live one.
    select format('alter table %s alter column %I drop default', a.attrelid::regclass, a.attname)
    from pg_depend d join pg_attrdef f on f.oid = d.objid
      join pg_attribute a on a.attrelid = f.adrelid and a.attnum = f.adnum
      join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
    where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
      and f.adrelid in (select oid from lifeboat_moving)
      and not exists (select from pg_depend o where o.classid = 'pg_class'::regclass and o.objid = s.oid
                      and o.deptype in ('a', 'i') and o.refobjid in (select oid from lifeboat_moving))
    union all
    -- Who owns a table can read it where it goes.
    select distinct format('grant usage on schema %I to %I', target, pg_get_userbyid(c.relowner))
    from pg_class c where c.oid in (select oid from lifeboat_moving)
    union all
    select format('alter table %s set schema %I', m.oid::regclass, target) from lifeboat_moving m
  loop
    execute statement;
  end loop;
end
$cut$";

impl Server {
    /// Moves `tables` of the side database, with their partitions, into its new schema `schema`, and takes from them what
    /// ties them to what stays: foreign keys, triggers, rules, policies, publications, defaults from others' sequences.
    /// Their owners may use the schema.
    ///
    /// # Errors
    /// Where there is no such table, or two of them would have one name; nothing is changed then.
    pub async fn cut_loose(&self, side: &str, schema: &str, tables: Tables<'_>) -> Result<()> {
        let session = self.connect(side).await?;
        let named: Vec<String> = tables
            .iter()
            .map(|(schema, table)| {
                let name = format!("{}.{}", identifier(schema), identifier(table));
                format!("({}::regclass::oid)", literal(&name))
            })
            .collect();
        let moving = format!(
            "create temp table lifeboat_moving on commit drop as \
             with recursive tree(oid) as (values {} union \
             select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid \
             join pg_class p on p.oid = t.oid and p.relkind = 'p') select oid from tree",
            named.join(", ")
        );
        let target = literal(schema);
        session
            .execute(&format!(
                "begin; set local search_path to pg_catalog, pg_temp; {moving}; create schema {}; \
                 select set_config('lifeboat.target_schema', {target}, true); {CUT_LOOSE}; commit",
                identifier(schema)
            ))
            .await
    }

    /// Brings the schema `schema` of the side database, with all that is in it, into the database `live`, in one
    /// transaction.
    ///
    /// # Errors
    /// With the words of `pg_dump` or `pg_restore`, where one of them failed: `live` is then as before.
    pub async fn carry(&self, side: &str, live: &str, schema: &str) -> Result<()> {
        let (from, to) = (conninfo(side, self.user()), conninfo(live, self.user()));
        // A quoted name is a pattern that nothing else fits.
        let command = self
            .program(&["sh", "-c", CARRY, "sh", &from, &to])
            .env("LIFEBOAT_SCHEMA", identifier(schema))
            .idle_timeout(IDLE_LIMIT);
        let engine = self.engine();
        let container = &self.service().container_id;
        let mut producer = engine.produce(container, &command, Transport::Raw).await?;
        while producer.next().await?.is_some() {}
        producer.finish().await.map(|_| ()).map_err(|error: Error| {
            error
                .while_doing(format!("cannot bring the tables into {live:?}"))
                .hint("types, functions, collations and extensions of other schemas that a table needs must be in the live database")
        })
    }
}
