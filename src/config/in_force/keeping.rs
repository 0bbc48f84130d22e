//! What waits for a restart: until then what is in force is what runs.

use super::{Entries, InForce, Node, Origin};

/// All keys that say something of listeners.
const LISTENERS: [&str; 5] = [
    "[server] listen",
    "[server] tls",
    "[server] proxy_protocol",
    "[server] redirect",
    "[server] listeners",
];

impl InForce {
    /// Puts back keys that wait for a restart, as they are in `running`: `[cache.l1] ttl`, or a table. The
    /// `tls` of a running listener that has a successor here, by its place, is that one's.
    pub(in crate::config) fn keep(
        &mut self,
        running: &Self,
        keys: &[&str],
        successors: &[Option<usize>],
    ) {
        if keys.iter().any(|key| LISTENERS.contains(key)) {
            self.keep_listeners(running, successors);
        }
        for key in keys {
            if !LISTENERS.contains(key) {
                self.put_back(running, key);
            }
        }
    }

    /// All of their keys: which of them is the first depends on what else is there.
    fn keep_listeners(&mut self, running: &Self, successors: &[Option<usize>]) {
        let renewed = successors.iter().map(|place| {
            let (_, tls) = self.listener((*place)?)?.iter().find(|(name, _)| name == "tls")?;
            Some(tls.clone())
        });
        let renewed: Vec<Option<Node>> = renewed.collect();
        for key in LISTENERS {
            self.put_back(running, key);
        }
        for (place, renewed) in renewed.into_iter().enumerate() {
            let entries = self.listener(place).into_iter().flatten();
            for (_, tls) in entries.filter(|(name, _)| name == "tls") {
                if let Some(renewed) = &renewed {
                    tls.clone_from(renewed);
                }
            }
        }
    }

    /// What is said of a listener: of the first one in `[server]`, unless nothing is said of it there.
    pub(super) fn listener(&mut self, place: usize) -> Option<&mut Entries> {
        let server = self.table("server")?;
        let is_said = |(name, node): &(String, Node)| {
            let is_written = !matches!(node, Node::Value(_, Origin::Default));
            let keys = ["listen", "tls", "proxy_protocol", "redirect"];
            is_written && keys.contains(&name.as_str())
        };
        let has_tables = server.iter().any(|(_, node)| matches!(node, Node::Tables(_)));
        let has_own = !has_tables || server.iter().any(is_said);
        if has_own && place == 0 {
            return Some(server);
        }
        let tables = server.iter_mut().find_map(|(name, node)| match node {
            Node::Tables(tables) if *name == "listeners" => Some(tables),
            _ => None,
        });
        tables?.get_mut(place - usize::from(has_own))
    }

    fn put_back(&mut self, running: &Self, key: &str) {
        let path = key.replace(['[', ']'], "").replace(' ', ".");
        let path: Vec<&str> = path.split('.').collect();
        put_back(&mut self.0, &running.0, &path);
    }
}

fn put_back(new: &mut Entries, old: &Entries, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    let former = old.iter().find(|(name, _)| name == first);
    let place = new.iter().position(|(name, _)| name == first);
    if let (Some((_, Node::Table(old))), false) = (former, rest.is_empty())
        && let Some((_, Node::Table(new))) = place.and_then(|place| new.get_mut(place))
    {
        put_back(new, old, rest);
        return;
    }
    if let Some(place) = place {
        new.remove(place);
    }
    new.extend(former.cloned());
}
