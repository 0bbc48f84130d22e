//! A policy that asks for what the others do not: claims, content, values of content and of documents.

use larder_policy::*;

struct Everything;

prepared!(Everything {});
export!(Everything: key, storing, invalidation);

impl Policy for Everything {
    fn configure(_: &mut Settings) -> Result<Self, String> {
        Ok(Self)
    }

    fn wants(&self) -> Wants {
        Wants {
            inputs: Inputs::PATH | Inputs::CONTENT,
            fields: vec!["authorization".to_owned(), "x-unused".to_owned()],
            claims: vec!["sub".to_owned(), "/realm/roles".to_owned()],
            response_values: vec!["$.id".to_owned()],
            document_values: vec!["$.team".to_owned()],
            ..Wants::default()
        }
    }
}

impl Key for Everything {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        let Some(sub) = request.claim_text(0) else {
            return Ok(KeyDecision::Bypass("nobody".to_owned()));
        };
        if let Some(authorization) = request.field(0) {
            log::info(&format!("for {authorization}"));
        }
        let content = String::from_utf8_lossy(request.content().unwrap_or_default());
        let mut parts = vec![Pair::new("path", &request.path), Pair::new("sub", &sub)];
        parts.extend(request.claim(1).map(|roles| Pair::new("roles", roles)));
        parts.push(Pair::new("content", &content));
        Ok(KeyDecision::Parts(parts))
    }
}

impl Storing for Everything {
    fn storing(&self, _: &Request, response: &Response) -> Result<StoringDecision, String> {
        let ids = response.values(0);
        let tags = ids.unwrap_or_default().iter().map(|id| format!("id-{id}")).collect();
        Ok(StoringDecision { store: ids.is_some(), max_age: None, tags })
    }
}

impl Invalidation for Everything {
    fn changed(&self, change: &Change) -> Result<Vec<Invalidated>, String> {
        let tag = |name: &str, value: &str| Invalidated {
            scope: Scope::Tag(format!("{name}-{value}")),
            soft: change.operation == Operation::Update,
        };
        let documents = [change.before(0), change.after(0)];
        let teams = documents.into_iter().flatten().flatten();
        Ok(teams.map(|team| tag("team", team)).chain([tag("id", &change.id)]).collect())
    }
}
