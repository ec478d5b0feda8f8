//! What a server says of itself.

use super::layout::Layout;
use super::server::{Server, refusal};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Whether it is Valkey.
    pub valkey: bool,
    /// Its version: `7.0.15`; empty where the user may not know.
    pub version: String,
    /// `master` or `slave`.
    pub role: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// Keys of all its databases.
    pub keys: u64,
    /// Whether sentinels watch it; `None` where the user may not know.
    pub sentinels: Option<bool>,
    /// Its modules.
    pub modules: Vec<String>,
    /// Where it reads its data at its start; the server's own words where it does not tell: the user may lack a
    /// right, or CONFIG may be renamed.
    pub layout: Result<Layout, String>,
    /// Whether a replica's synchronisation is sent without a file, which puts a mark behind the snapshot;
    /// `None` where the user may not know.
    pub diskless: Option<bool>,
    /// Seconds that such a synchronisation waits for more replicas; 0 where unknown.
    pub diskless_delay: u64,
}

impl Survey {
    /// The product's name.
    pub fn product(&self) -> &'static str {
        if self.valkey { "Valkey" } else { "Redis" }
    }
}

impl Server {
    /// Asks the server what a capture and a restore have to know.
    pub async fn survey(&self) -> Result<Survey> {
        let commands = [
            "INFO",
            "CONFIG GET dir",
            "CONFIG GET dbfilename",
            "CONFIG GET appendonly",
            "CONFIG GET appenddirname",
            "CONFIG GET appendfilename",
            "CONFIG GET repl-diskless-sync",
            "CONFIG GET repl-diskless-sync-delay",
            "CLIENT LIST",
        ];
        let answers = self.ask(&commands).await?;
        let [
            info,
            dir,
            dbfilename,
            appendonly,
            appenddirname,
            appendfilename,
            diskless,
            delay,
            clients,
        ] = &answers[..]
        else {
            return Err(Error::failed(
                "the server left a question without an answer",
            ));
        };
        let may_not_know = info.starts_with("NOPERM");
        if let Some(refusal) = refusal(info).filter(|_| !may_not_know) {
            return Err(self.refused(refusal));
        }
        let info = Info::parse(info);
        let valkey = info.get("server_name") == "valkey";
        let version = info.get(if valkey {
            "valkey_version"
        } else {
            "redis_version"
        });
        if version.is_empty() && !may_not_know {
            return Err(self.refused("INFO names no version"));
        }
        let layout = match (
            setting(dir),
            setting(dbfilename),
            setting(appendonly),
            setting(appendfilename),
        ) {
            (Some(dir), Some(dbfilename), Some(appendonly), Some(appendfilename)) => Ok(Layout {
                dir,
                dbfilename,
                appendonly: appendonly == "yes",
                appenddirname: setting(appenddirname),
                appendfilename,
            }),
            _ => Err(refusal(dir).unwrap_or("CONFIG GET is silent").to_owned()),
        };
        Ok(Survey {
            valkey,
            version: version.to_owned(),
            role: info.get("role").to_owned(),
            mode: info.get("redis_mode").to_owned(),
            keys: info.databases().values().sum(),
            sentinels: refusal(clients)
                .is_none()
                .then(|| clients.contains(" name=sentinel-")),
            modules: info.modules(),
            layout,
            diskless: setting(diskless).map(|value| value == "yes"),
            diskless_delay: setting(delay)
                .and_then(|value| value.parse().ok())
                .unwrap_or(0),
        })
    }

    /// The answer to one command in a database.
    ///
    /// # Errors
    /// Where the server refuses it.
    pub async fn answer(&self, database: u32, command: &str) -> Result<String> {
        let select = format!("SELECT {database}");
        let answers = self.ask(&[&select, command]).await?;
        if let Some(refusal) = answers.iter().find_map(|answer| refusal(answer)) {
            return Err(Error::failed(refusal));
        }
        Ok(answers.into_iter().next_back().unwrap_or_default())
    }

    /// How many keys the server has loaded at its start, expired ones included, where its version tells;
    /// and what it has now.
    ///
    /// The first is exact even where clients are at work already.
    pub async fn loaded(&self) -> Result<(Option<u64>, BTreeMap<u32, u64>)> {
        let answers = self.ask(&["INFO"]).await?;
        let said = answers.first().map_or("", String::as_str);
        if let Some(refusal) = refusal(said) {
            return Err(self.refused(refusal));
        }
        let info = Info::parse(said);
        let number = |name: &str| info.get(name).parse::<u64>().ok();
        let loaded = number("rdb_last_load_keys_loaded")
            .zip(number("rdb_last_load_keys_expired"))
            .map(|(loaded, expired)| loaded + expired);
        Ok((loaded, info.databases()))
    }
}

/// The value of a `CONFIG GET` of one name; `None` where the user may not ask or there is no such setting.
fn setting(answer: &str) -> Option<String> {
    if refusal(answer).is_some() {
        return None;
    }
    let (_, value) = answer.split_once('\n')?;
    Some(value.to_owned())
}

/// `INFO`'s fields.
pub(super) struct Info<'a>(BTreeMap<&'a str, &'a str>, Vec<String>);

impl<'a> Info<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        let fields = || text.lines().filter_map(|line| line.split_once(':'));
        let modules = fields()
            .filter(|(name, _)| *name == "module")
            .filter_map(|(_, value)| value.strip_prefix("name=")?.split(',').next())
            .map(str::to_owned)
            .collect();
        Self(fields().collect(), modules)
    }

    pub(super) fn get(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn modules(&self) -> Vec<String> {
        self.1.clone()
    }

    /// Keys by database: `db0:keys=5,expires=1,avg_ttl=0`.
    fn databases(&self) -> BTreeMap<u32, u64> {
        self.0
            .iter()
            .filter_map(|(name, value)| {
                let number = name.strip_prefix("db")?.parse().ok()?;
                let keys = value
                    .strip_prefix("keys=")?
                    .split(',')
                    .next()?
                    .parse()
                    .ok()?;
                Some((number, keys))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_by_database() {
        let info = Info::parse(
            "# Keyspace\ndb0:keys=5,expires=1\ndb11:keys=2,expires=0\ndbx:keys=1\nmodule:name=bf,ver=1\n",
        );
        assert_eq!(info.databases(), BTreeMap::from([(0, 5), (11, 2)]));
        assert_eq!(info.modules(), ["bf"]);
    }

    #[test]
    fn a_setting_is_told_from_a_refusal() {
        assert_eq!(setting("dir\n/data").as_deref(), Some("/data"));
        assert_eq!(setting("dbfilename\n").as_deref(), Some(""));
        assert_eq!(setting(""), None);
        assert_eq!(setting("NOPERM no\nreally"), None);
    }
}
