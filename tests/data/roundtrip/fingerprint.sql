-- Everything of the current database that a restore must bring back, as one JSON object of texts.
-- Nothing in it depends on the database's name, on object ids or on the order of grants.
\set QUIET on
set datestyle = 'ISO';
set search_path = pg_catalog;
set bytea_output = hex;
create function pg_temp.rows_of(relation regclass) returns text language plpgsql as $$
declare found text;
begin
  execute format('select count(*) || '' '' || md5(coalesce(string_agg(t::text, E''\n'' order by t::text collate "C"), '''')) from only %s t', relation) into found;
  return found;
end $$;
create function pg_temp.role(id oid) returns text language sql as
  $$ select coalesce((select rolname from pg_roles where oid = id), 'public') $$;
create function pg_temp.acl(acl aclitem[]) returns text language sql as $$
  select string_agg(format('%s:%s:%s:%s', pg_temp.role(a.grantee), a.privilege_type, a.is_grantable, pg_temp.role(a.grantor)), ','
    order by pg_temp.role(a.grantee) collate "C", a.privilege_type) from aclexplode(acl) a $$;
create temp view relations as
  select c.*, n.nspname, format('%I.%I', n.nspname, c.relname) as shown
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname !~ '^pg_' and n.nspname <> 'information_schema';
with facts(key, value) as (
  select 'rows of ' || shown, pg_temp.rows_of(oid::regclass) from relations where relkind in ('r', 'm', 'p') and relispopulated
  union all
  select 'relation ' || shown, format('%s owner=%s acl=%s options=%s rls=%s/%s persistence=%s identity=%s bound=%s key=%s populated=%s',
    relkind, pg_temp.role(relowner),
    pg_temp.acl(coalesce(relacl, acldefault(case relkind when 'S' then 's'::"char" else 'r' end, relowner))), reloptions,
    relrowsecurity, relforcerowsecurity, relpersistence, relreplident, pg_get_expr(relpartbound, oid),
    case relkind when 'p' then pg_get_partkeydef(oid) end, relispopulated)
    from relations where relkind in ('r', 'm', 'p', 'v', 'S')
  union all
  select format('column %s.%I', shown, attname), format('%s %s notnull=%s identity=%s generated=%s default=%s acl=%s options=%s statistics=%s collation=%s storage=%s',
    row_number() over (partition by r.oid order by attnum), format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
    pg_get_expr(adbin, adrelid), pg_temp.acl(attacl),
    -- Debian's 17.12 keeps a mark of its own there, which no dump has and every table has another one.
    (select array_agg(option) from unnest(attoptions) option where option not like 'pg\_attver=%'), nullif(attstattarget, -1),
    (select collname from pg_collation where oid = attcollation), attstorage)
    from relations r join pg_attribute a on a.attrelid = r.oid left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
    where attnum > 0 and not attisdropped and relkind in ('r', 'm', 'p', 'v')
  union all
  select 'view ' || shown, pg_get_viewdef(oid) from relations where relkind in ('v', 'm')
  union all
  select 'index ' || i.indexrelid::regclass, pg_get_indexdef(i.indexrelid) from pg_index i join relations r on r.oid = i.indrelid
  union all
  select format('constraint %I of %s', conname, coalesce(r.shown, contypid::regtype::text)), pg_get_constraintdef(c.oid)
    from pg_constraint c left join relations r on r.oid = c.conrelid where c.connamespace::regnamespace::text not in ('pg_catalog', 'information_schema')
  union all
  select format('trigger %I of %s', tgname, shown), pg_get_triggerdef(t.oid) || tgenabled::text from pg_trigger t join relations r on r.oid = t.tgrelid where not tgisinternal
  union all
  select format('policy %I of %I.%I', policyname, schemaname, tablename), to_jsonb(p)::text from pg_policies p
  union all
  select format('sequence %I.%I', schemaname, sequencename), (to_jsonb(s) - 'cache_size')::text from pg_sequences s
  union all
  select 'function ' || p.oid::regprocedure, format('%s owner=%s acl=%s', case prokind when 'a' then 'aggregate' else pg_get_functiondef(p.oid) end,
    pg_temp.role(proowner), pg_temp.acl(coalesce(proacl, acldefault('f', proowner))))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  union all
  select format('type %I.%I', n.nspname, typname), format('%s base=%s check=%s owner=%s acl=%s labels=%s', typtype, typbasetype::regtype, typnotnull,
    pg_temp.role(typowner), pg_temp.acl(coalesce(typacl, acldefault('T', typowner))),
    (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid))
    from pg_type t join pg_namespace n on n.oid = t.typnamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  union all
  select format('schema %I', nspname), format('owner=%s acl=%s', pg_temp.role(nspowner), pg_temp.acl(coalesce(nspacl, acldefault('n', nspowner))))
    from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
  union all
  select format('default privileges %s %s %s', pg_temp.role(defaclrole), defaclnamespace::regnamespace, defaclobjtype), pg_temp.acl(defaclacl) from pg_default_acl
  union all
  select format('extension %I', extname), extnamespace::regnamespace || ' ' || extversion from pg_extension
  union all
  select format('comment on %s %s', o.type, o.identity), description from pg_description d,
    pg_identify_object(d.classoid, d.objoid, d.objsubid) o
    where o.schema is distinct from 'pg_catalog' and o.schema is distinct from 'information_schema' and o.identity !~ '^pg_catalog\.'
  union all
  select 'large object ' || oid, format('%s owner=%s acl=%s', md5(lo_get(oid)), pg_temp.role(lomowner), pg_temp.acl(coalesce(lomacl, acldefault('L', lomowner))))
    from pg_largeobject_metadata
  union all
  select format('collation %I.%I', n.nspname, collname), format('%s %s %s', collprovider, collisdeterministic,
    coalesce(to_jsonb(c)->>'colllocale', to_jsonb(c)->>'colliculocale', collcollate))
    from pg_collation c join pg_namespace n on n.oid = c.collnamespace where n.nspname <> 'pg_catalog'
  union all
  select format('statistics %s', stxname), pg_get_statisticsobjdef(oid) from pg_statistic_ext
  union all
  select format('publication %I', pubname), (to_jsonb(p) - 'oid' - 'pubowner')::text from pg_publication p
  union all
  select 'database', format('owner=%s acl=%s limit=%s comment=%s encoding=%s collate=%s ctype=%s provider=%s locale=%s', pg_temp.role(datdba),
    pg_temp.acl(coalesce(datacl, acldefault('d', datdba))), datconnlimit, shobj_description(oid, 'pg_database'), encoding, datcollate, datctype,
    to_jsonb(d)->>'datlocprovider', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'))
    from pg_database d where datname = current_database()
  union all
  select format('settings of %s', pg_temp.role(setrole)),
    (select string_agg(one, E'\n' order by one collate "C") from unnest(setconfig) one where one !~ '^lifeboat\.')
    from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where datname = current_database()
)
select jsonb_object_agg(key, value) from facts where value is not null;
