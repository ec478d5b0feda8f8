-- Every role but the server's own ones, as one JSON object of texts.
with facts(key, value) as (
  select format('role %I', rolname), (to_jsonb(a) - 'oid')::text from pg_authid a where oid >= 16384
  union all
  select format('%I in %I', m.rolname, r.rolname), (to_jsonb(a) - 'oid' - 'roleid' - 'member' - 'grantor')::text || g.rolname
    from pg_auth_members a join pg_roles r on r.oid = a.roleid join pg_roles m on m.oid = a.member join pg_roles g on g.oid = a.grantor where m.oid >= 16384
  union all
  select format('settings of %I', rolname), setconfig::text from pg_db_role_setting s join pg_roles r on r.oid = s.setrole where setdatabase = 0
  union all
  select format('parameter %s for %s', parname, coalesce(rolname, 'public')), privilege_type || is_grantable
    from pg_parameter_acl, aclexplode(paracl) left join pg_roles r on r.oid = grantee where grantee <> 10
  union all
  select format('comment on %I', rolname), shobj_description(oid, 'pg_authid') from pg_roles
)
select jsonb_object_agg(key, value) from facts where value is not null;
