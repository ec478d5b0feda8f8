//! Who is stopped while stores are replaced, and who must be well afterwards.

use super::Context;
use super::exchange::recorded;
use super::quiesce::{awaited, to_stop_with};
use super::sources::SourceService;
use super::step::Step;
use crate::docker::quiesce::Standstill;
use crate::error::Result;
use crate::stack::{Service, Stack};
use std::time::Duration;

/// What is known of those who are stopped.
pub(super) struct Standing<'a> {
    pub context: &'a Context,
    pub stack: &'a Stack,
    /// The stack's servers.
    pub services: &'a [SourceService],
    /// The services of those that get something else to serve.
    pub concerned: &'a [&'a str],
    /// Whether everything of the stack is stopped, not only who writes to what is replaced.
    pub all: bool,
    /// How long it may take until they are well again.
    pub health: Duration,
}

impl Standing<'_> {
    /// The steps of `exchange` between stopping and starting; as they are where nobody has to be stopped.
    pub(super) async fn around(
        &self,
        mut standstill: Standstill,
        exchange: Vec<Step>,
    ) -> Result<Vec<Step>> {
        if self.all && !exchange.is_empty() {
            standstill.containers = to_stop_with(standstill.containers, self.stack, self.services)?;
            // Nobody writes meanwhile: all of it can be taken back long after this run has died.
            if !standstill.containers.is_empty() {
                standstill.exchanges = recorded(&exchange);
            }
        }
        if standstill.trees.is_empty() && standstill.containers.is_empty() {
            return Ok(exchange);
        }
        let servers: Vec<&Service> = match self.all {
            true => self.servers().collect(),
            false => Vec::new(),
        };
        let health = awaited(
            self.context,
            &mut standstill.containers,
            self.stack,
            &servers,
        )
        .await?;
        let mut steps = vec![Step::Quiesce {
            standstill: standstill.clone(),
        }];
        steps.extend(exchange);
        steps.push(Step::StartAgain {
            standstill,
            health,
            seconds: self.health.as_secs(),
        });
        Ok(steps)
    }

    /// The servers that get something else to serve.
    fn servers(&self) -> impl Iterator<Item = &Service> {
        let services = self.services.iter().map(|one| &one.service);
        services.filter(|service| self.concerned.contains(&service.name.as_str()))
    }
}
