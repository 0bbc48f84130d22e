//! Whether policies have the memory for the contents that routes show them: a call that is shown more
//! would fail, each time.

use std::sync::Arc;

use crate::config::{Config, Fault, show_size};
use crate::plugin::Policy;

/// Checks that no route shows a policy a content longer than its `memory`.
pub(super) fn check(
    config: &Config,
    policies: &[Option<Arc<Policy>>],
    file: &str,
    faults: &mut Vec<Fault>,
) {
    for route in &config.routes {
        let asked = ("max_query_body", route.max_query_body);
        let written = ("max_policy_body", route.max_policy_body);
        let keys = route.key.iter().zip(&route.key_places);
        let keys = keys.map(|(key, place)| (Some(*key), *place, asked));
        for (policy, place, (bound, longest)) in keys.chain([
            (route.shadow, route.shadow_place, asked),
            (route.storing, route.storing_place, asked),
            (route.invalidation, route.invalidation_place, written),
        ]) {
            let Some(at) = policy else { continue };
            let loaded = policies.get(at).and_then(Option::as_ref);
            let is_shown = loaded.is_some_and(|policy| policy.wants_content());
            let Some(policy) = config.policies.get(at).filter(|_| is_shown) else { continue };
            if longest > policy.memory {
                let message = format!(
                    "route `{}`: policy `{}` is shown a content of up to {} (`{bound}`), and has a \
                     `memory` of {}",
                    route.name,
                    policy.name,
                    show_size(longest as u64),
                    show_size(policy.memory as u64)
                );
                let hint = format!(
                    "write a smaller {bound}, or a larger memory in [policies.{}]",
                    policy.name
                );
                faults.push(Fault::new(file, place, message).with_hint(hint));
            }
        }
    }
}
