//! A policy that uses all of version 0.1.0 of the contract: it asks for everything, and answers with
//! what it was shown.

use larder_policy::*;

struct First {
    prefix: String,
}

prepared!(First { prefix });
export!(First: key, storing, invalidation);

impl Policy for First {
    fn configure(settings: &mut Settings) -> Result<Self, String> {
        let prefix = settings.text("prefix").ok_or("`prefix` is missing")?;
        log::debug("configured");
        Ok(Self { prefix })
    }

    fn wants(&self) -> Wants {
        let one = |text: &str| vec![text.to_owned()];
        Wants {
            inputs: Inputs::all(),
            fields: one("x-field"),
            cookies: one("cookie"),
            claims: one("sub"),
            response_fields: one("x-response"),
            response_values: one("$..id"),
            document_values: one("$.owner"),
        }
    }
}

impl Key for First {
    fn key(&self, request: &Request) -> Result<KeyDecision, String> {
        if request.content() == Some(b"bypass") {
            return Ok(KeyDecision::Bypass("as asked".to_owned()));
        }
        let capture = request.captures.first().map_or("", |capture| &capture.value);
        Ok(KeyDecision::Parts(vec![
            Pair::new("path", &request.path),
            Pair::new("query", &Parameter::join(&request.query)),
            Pair::new("head", &[&*request.method, &request.scheme, &request.authority].join(" ")),
            Pair::new("capture", capture),
            Pair::new("field", request.field(0).unwrap_or("-")),
            Pair::new("cookie", request.cookie(0).unwrap_or("-")),
            Pair::new("claim", request.claim(0).unwrap_or("-")),
            Pair::new("content", &text(request.content())),
        ]))
    }
}

impl Storing for First {
    fn storing(&self, _: &Request, response: &Response) -> Result<StoringDecision, String> {
        let values = response.values(0);
        Ok(StoringDecision {
            store: response.status == 200 && values.is_some(),
            max_age: response.field(0).and_then(|field| field.parse().ok()),
            tags: self.tags(values),
        })
    }
}

impl Invalidation for First {
    fn written(&self, request: &Request, response: &Response) -> Result<Vec<Invalidated>, String> {
        let tags = self.tags(response.values(0)).into_iter().map(Scope::Tag);
        let path = Scope::Path(text(request.content()));
        Ok(tags.chain([path]).map(|scope| Invalidated { scope, soft: true }).collect())
    }

    fn changed(&self, change: &Change) -> Result<Vec<Invalidated>, String> {
        let Change { mongodb, database, collection, operation, id, .. } = change;
        let pattern = format!("{mongodb}/{database}/{collection}/{operation:?}/{id}");
        let tags = [change.before(0), change.after(0)].map(|values| self.tags(values));
        let tags = tags.into_iter().flatten().map(Scope::Tag);
        let scopes = tags.chain([Scope::Pattern(pattern)]);
        Ok(scopes.map(|scope| Invalidated { scope, soft: false }).collect())
    }
}

impl First {
    fn tags(&self, values: Option<&[String]>) -> Vec<String> {
        values.unwrap_or_default().iter().map(|value| format!("{}{value}", self.prefix)).collect()
    }
}

fn text(content: Option<&[u8]>) -> String {
    content.map_or_else(|| "-".to_owned(), |octets| String::from_utf8_lossy(octets).into_owned())
}
