//! Retention against real repositories: what the table says goes, and nothing else.

mod commands;
mod guarded;
mod stores;

use crate::support::fabricated::Fabricated;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use lifeboat::operation::Context;
use lifeboat::operation::helpers::HelperProgram;
use lifeboat::operation::prune::PruneRequest;
use lifeboat::repository::Repository;
use lifeboat::schedule::{Policies, Policy, Rules};
use std::path::Path;
use tokio_util::sync::CancellationToken;

#[expect(clippy::disallowed_methods, reason = "tests are an edge, too")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A backup of `shop` that is so many days old.
fn days_ago(days: i64) -> Fabricated {
    Fabricated::new("shop", now() - TimeDelta::days(days))
}

/// The surroundings of a run whose machine has this clock.
fn context(state: &Path, clock: fn() -> DateTime<Utc>) -> Context {
    Context {
        clock,
        cancel: CancellationToken::new(),
        engine: None,
        state: state.to_owned(),
        host: "host".to_owned(),
        helper: HelperProgram::new(None),
    }
}

/// Keeping the newest `last` of every stack.
fn keep_last(repository: &Repository, last: u32) -> PruneRequest {
    keep(
        repository,
        Rules {
            last: Some(last),
            ..Rules::default()
        },
    )
}

fn keep(repository: &Repository, rules: Rules) -> PruneRequest {
    let policy = Policy {
        schedule: None,
        rules,
        zone: Tz::UTC,
    };
    PruneRequest {
        repository: repository.clone(),
        stack: None,
        policies: Policies {
            default: vec![policy],
            ..Policies::default()
        },
        dry_run: false,
    }
}
