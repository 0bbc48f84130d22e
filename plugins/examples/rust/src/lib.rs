//! A key by path and by the tenant that a request field names: `x-tenant`, or what the setting `field`
//! says. Requests without a tenant go past the cache.

use larder_policy::*;

struct ByTenant {
    field: String,
}

prepared!(ByTenant { field });
export!(ByTenant: key);

impl Policy for ByTenant {
    fn configure(settings: &mut Settings) -> Result<Self, String> {
        Ok(Self { field: settings.text("field").unwrap_or("x-tenant".to_owned()) })
    }

    fn wants(&self) -> Wants {
        Wants { inputs: Inputs::PATH, fields: vec![self.field.clone()], ..Wants::default() }
    }
}

impl Key for ByTenant {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        let Some(tenant) = request.field(0) else {
            return Ok(KeyDecision::Bypass("no tenant".to_owned()));
        };
        Ok(KeyDecision::Parts(vec![Pair::new("path", &request.path), Pair::new("tenant", tenant)]))
    }
}
