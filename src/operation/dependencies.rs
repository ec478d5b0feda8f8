//! Which services of a stack need which others.

use crate::stack::Stack;
use std::collections::{BTreeMap, BTreeSet};

/// Who depends on whom in a stack, as Compose has written it on the containers.
pub(super) struct Dependencies<'s> {
    names: BTreeSet<&'s str>,
    /// What each service needs.
    needs: BTreeMap<&'s str, BTreeSet<&'s str>>,
    /// Those that somebody wants healthy.
    pub(super) awaited: BTreeSet<&'s str>,
}

impl<'s> Dependencies<'s> {
    pub(super) fn of(stack: &'s Stack) -> Self {
        let mut dependencies = Self {
            names: BTreeSet::new(),
            needs: BTreeMap::new(),
            awaited: BTreeSet::new(),
        };
        for service in &stack.services {
            dependencies.names.insert(&service.name);
            // `postgres:service_healthy:false,redis:service_started:true`
            let label = service.labels.get("com.docker.compose.depends_on");
            for entry in label.iter().flat_map(|label| label.split(',')) {
                let mut parts = entry.split(':');
                let Some(name) = parts.next().filter(|name| !name.is_empty()) else {
                    continue;
                };
                dependencies
                    .needs
                    .entry(&service.name)
                    .or_default()
                    .insert(name);
                if parts.next() == Some("service_healthy") {
                    dependencies.awaited.insert(name);
                }
            }
        }
        dependencies
    }

    /// Every service after those that it needs. A circle, which Compose refuses, is cut somewhere.
    pub(super) fn order(&self) -> Vec<&'s str> {
        fn visit<'s>(
            name: &'s str,
            dependencies: &Dependencies<'s>,
            seen: &mut BTreeSet<&'s str>,
            order: &mut Vec<&'s str>,
        ) {
            if !dependencies.names.contains(name) || !seen.insert(name) {
                return;
            }
            for needed in dependencies.needs.get(name).into_iter().flatten() {
                visit(needed, dependencies, seen, order);
            }
            order.push(name);
        }
        let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
        for name in &self.names {
            visit(name, self, &mut seen, &mut order);
        }
        order
    }
}
