//! A key policy: one stored response for each path, query and value of a request field.

use larder_policy::*;

/// The settings.
#[derive(Debug)]
struct ByField {
    /// The field that the response depends on.
    field: String,
    /// What stands for it where a request does not have it; without it such requests are forwarded.
    default: Option<String>,
}

prepared!(ByField { field, default });
export!(ByField: key);

impl Policy for ByField {
    fn configure(settings: &mut Settings) -> Result<Self, String> {
        Ok(Self {
            field: settings.text("field").unwrap_or_else(|| "x-tenant".to_owned()),
            default: settings.text("default"),
        })
    }

    fn wants(&self) -> Wants {
        Wants {
            inputs: Inputs::PATH | Inputs::QUERY,
            fields: vec![self.field.clone()],
            ..Wants::default()
        }
    }
}

impl Key for ByField {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        let Some(value) = request.field(0).or(self.default.as_deref()) else {
            return Ok(KeyDecision::Bypass(format!("no {}", self.field)));
        };
        let mut parts = vec![Pair::new("path", &request.path)];
        if !request.query.is_empty() {
            parts.push(Pair::new("query", &Parameter::join(&request.query)));
        }
        parts.push(Pair::new(&self.field, value));
        Ok(KeyDecision::Parts(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tenant: Option<&str>) -> Request {
        Request {
            path: "/users/42".to_owned(),
            fields: vec![tenant.map(str::to_owned)],
            ..Request::default()
        }
    }

    #[test]
    fn the_field_is_part_of_the_key() {
        let policy: ByField = configure([]).unwrap();
        let parts = vec![Pair::new("path", "/users/42"), Pair::new("x-tenant", "red")];
        assert_eq!(policy.key(&request(Some("red"))), Ok(KeyDecision::Parts(parts)));
    }

    #[test]
    fn without_the_field_nothing_is_stored() {
        let policy: ByField = configure([]).unwrap();
        assert_eq!(policy.key(&request(None)), Ok(KeyDecision::Bypass("no x-tenant".to_owned())));
    }

    #[test]
    fn the_default_stands_for_it() {
        let policy: ByField = configure([Setting::new("default", "red")]).unwrap();
        assert_eq!(policy.key(&request(None)), policy.key(&request(Some("red"))));
    }

    #[test]
    fn other_settings_are_refused() {
        configure::<ByField>([Setting::new("feild", "x")]).unwrap_err();
    }
}
