//! A snapshot that the server writes itself.

use super::server::{POLLS, Server, refusal};
use super::survey::Info;
use crate::error::{Error, Result};
use std::time::Duration;

impl Server {
    /// Makes the server write its snapshot file, and waits until it has.
    ///
    /// # Errors
    /// With the server's own words where it may not or cannot; a file that was there before counts for nothing.
    pub(super) async fn save(&self) -> Result<()> {
        let mut pause = POLLS.0;
        // Somebody else's save under way is not of this moment.
        let before = loop {
            let before = self.saves().await?;
            // A save is dated to the second: the next one must be told from the last.
            match before.now {
                Some(now) if !before.busy && now > before.last => break before,
                None if !before.busy => {
                    tokio::time::sleep(Duration::from_millis(1100)).await;
                    break before;
                }
                _ => tokio::time::sleep(pause).await,
            }
        };
        let answers = self.ask(&["BGSAVE"]).await?;
        let said = answers.first().map_or("", String::as_str);
        if !said.starts_with("Background saving") {
            return Err(match refusal(said) {
                Some(refusal) => self.refused(refusal),
                None => Error::failed(format!("BGSAVE of service {}: {said}", self.service().name)),
            });
        }
        loop {
            let state = self.saves().await?;
            if !state.busy {
                if !state.well {
                    return Err(Error::failed(format!(
                        "service {} could not write its snapshot: rdb_last_bgsave_status is not ok",
                        self.service().name
                    ))
                    .hint(format!(
                        "its log says why (docker logs {}): often no memory to fork, or a full disk; until a save \
                         succeeds a server with stop-writes-on-bgsave-error refuses writes",
                        self.service().container_name
                    )));
                }
                if state.last > before.last {
                    return Ok(());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLLS.1);
        }
    }

    async fn saves(&self) -> Result<Saves> {
        let answers = self.ask(&["INFO"]).await?;
        let said = answers.first().map_or("", String::as_str);
        if let Some(refusal) = refusal(said) {
            return Err(self.refused(refusal));
        }
        let info = Info::parse(said);
        let number = |name: &str| info.get(name).parse::<u64>().ok();
        let missing = || self.refused("INFO does not tell how saving goes");
        Ok(Saves {
            busy: info.get("rdb_bgsave_in_progress") != "0",
            well: info.get("rdb_last_bgsave_status") == "ok",
            last: number("rdb_last_save_time").ok_or_else(missing)?,
            now: number("server_time_usec").map(|usec| usec / 1_000_000),
        })
    }
}

/// How saving goes.
struct Saves {
    busy: bool,
    well: bool,
    /// When the last save was done, in seconds since 1970.
    last: u64,
    /// The server's clock, where it tells it.
    now: Option<u64>,
}
