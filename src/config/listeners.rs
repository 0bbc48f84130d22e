//! Where clients connect: `listen` and the keys that go with it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::address::listen;
use super::fault::Wrong;
use super::network::{Network, network};
use super::reader::{Table, Value};
use super::sections::file;
use super::{Place, Server};

/// Certificates of one listener.
const MOST: usize = 1000;

const SHAPE: &str = "write tls = { certificate = \"FILE\", key = \"FILE\" }";

/// A listener for clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// `listen`, default `127.0.0.1:8080`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `tls`; none: what is spoken is cleartext.
    pub tls: Option<ListenerTls>,
    /// `proxy_protocol`; none: a connection is whose it seems to be.
    pub proxy: Option<ProxyProtocol>,
    /// `redirect = "https"` or `"https:PORT"`: who comes here is sent to that port, default 443.
    pub redirect: Option<u16>,
}

/// `proxy_protocol`: each connection begins with a header that tells whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// `from`: the proxies that are believed; none for `proxy_protocol = true`, which believes all.
    pub from: Option<Vec<Network>>,
    /// `others = "accept"`: connections of others are taken as they are. By default they are refused.
    pub accepts_others: bool,
}

/// `tls` of a listener: PEM files; relative ones are found from the folder of `gateway.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// `certificate` and `key`, or each of `certificates`; the first is for clients that name none of
    /// the others' hosts. At least one, at most 1000.
    pub certificates: Vec<Certificate>,
    /// `client_ca`, and the keys that go with it; none: clients are not asked who they are.
    pub clients: Option<Clients>,
}

/// A certificate with those that vouch for it, and its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// `certificate`: the server's own first.
    pub chain: PathBuf,
    /// `key`.
    pub key: PathBuf,
    /// Where its table stands.
    pub place: Place,
}

/// Which certificates of clients are believed, and what comes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// `client_ca`: the authorities that vouch for clients.
    pub ca: PathBuf,
    /// Where its value stands.
    pub place: Place,
    /// `client_certificate = "require"`, the default: nobody is served who has none.
    pub required: bool,
    /// `client_cert_field`, default false: requests have `Client-Cert` (RFC 9440).
    pub field: bool,
}

impl Listener {
    /// One in cleartext.
    pub fn on(listen: SocketAddr) -> Self {
        Self { listen, tls: None, proxy: None, redirect: None }
    }

    /// Whether the gateway itself is answered here as a client is, without a certificate and without a proxy.
    pub fn answers_itself(&self) -> bool {
        let is_served = match &self.tls {
            None => self.redirect.is_none(),
            Some(tls) => tls.clients.as_ref().is_none_or(|clients| !clients.required),
        };
        let own = own_address(self.listen.ip());
        let is_plain = |proxy: &ProxyProtocol| proxy.expects_header(own) == Some(false);
        is_served && self.proxy.as_ref().is_none_or(is_plain)
    }

    /// Whether it is the same but for certificates.
    fn is_same_door(&self, other: &Self) -> bool {
        let door = |it: &Self| Self { tls: None, ..it.clone() };
        door(self) == door(other) && self.tls.is_some() == other.tls.is_some()
    }

    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let certificates = self.tls.iter().flat_map(|tls| &tls.certificates);
        let certificates = certificates.flat_map(|it| [&it.chain, &it.key]);
        let clients = self.tls.iter().filter_map(|tls| tls.clients.as_ref());
        certificates.chain(clients.map(|clients| &clients.ca))
    }
}

impl ProxyProtocol {
    /// Whether a connection from this address begins with a header that tells whose it is. None: it is to
    /// be refused.
    pub fn expects_header(&self, address: IpAddr) -> Option<bool> {
        let address = address.to_canonical();
        let has_it = |from: &Vec<Network>| from.iter().any(|network| network.contains(address));
        let is_believed = self.from.as_ref().is_none_or(has_it);
        (is_believed || self.accepts_others).then_some(is_believed)
    }
}

/// The address by which a listener is reached from its own machine; connections by it are from it, too.
pub fn own_address(listens: IpAddr) -> IpAddr {
    match listens {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

impl Server {
    /// All listeners for clients.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        std::iter::once(&self.listener).chain(&self.more)
    }

    /// The keys by which the listeners of two differ, certificates aside.
    pub(super) fn listener_differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let (own, its) = (&self.listener, &other.listener);
        [
            ("[server] listen", own.listen != its.listen),
            ("[server] tls", own.tls.is_some() != its.tls.is_some()),
            ("[server] proxy_protocol", own.proxy != its.proxy),
            ("[server] redirect", own.redirect != its.redirect),
            ("[server] listeners", !self.has_same_doors(other)),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
    }

    /// Of those behind the first.
    fn has_same_doors(&self, other: &Self) -> bool {
        let mut doors = self.more.iter().zip(&other.more);
        self.more.len() == other.more.len() && doors.all(|(own, its)| own.is_same_door(its))
    }

    /// For each of these listeners the place of another's listener whose certificates it has at once,
    /// whatever else of it waits for a restart. None: it keeps its own, as it is to go, or TLS is to begin
    /// or to end.
    pub(super) fn successors(&self, other: &Self) -> Vec<Option<usize>> {
        let at = |own: &Listener| {
            let is_known = own.listen.port() != 0;
            other.listeners().position(|its| is_known && its.listen == own.listen)
        };
        let is_on_free_port = self.listener.listen.port() == 0;
        let first = at(&self.listener).or(is_on_free_port.then_some(0));
        // Of those on free ports the order alone says which is which.
        let is_in_order = self.has_same_doors(other);
        let more = self.more.iter().zip(1..);
        let more = more.map(|(own, place)| if is_in_order { Some(place) } else { at(own) });
        let has_tls = |place| other.listeners().nth(place).is_some_and(|its| its.tls.is_some());
        let places = self.listeners().zip(std::iter::once(first).chain(more));
        places
            .map(|(own, place)| place.filter(|place| has_tls(*place) == own.tls.is_some()))
            .collect()
    }

    /// These listeners, with the certificates of their successors.
    pub(super) fn renewed_listeners(
        &self,
        other: &Self,
        successors: &[Option<usize>],
    ) -> (Listener, Vec<Listener>) {
        let renewed = |(own, place): (&Listener, &Option<usize>)| {
            let its = place.and_then(|place| other.listeners().nth(place)).unwrap_or(own);
            Listener { tls: its.tls.clone(), ..own.clone() }
        };
        let all = self.listeners().zip(successors).map(renewed);
        let mut all: VecDeque<Listener> = all.collect();
        (all.pop_front().unwrap_or_else(|| self.listener.clone()), all.into())
    }
}

/// Whether nobody can listen at both. Beside an address of IPv4 with the same port, `[::]` takes connections over IPv6
/// alone; else it is the system's matter.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let has_all = one.ip().is_unspecified() || other.ip().is_unspecified();
    let is_within = has_all && one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && one.port() == other.port() && (is_within || one == other)
}

/// What `[server]` says of its own listener, and those of `[[server.listeners]]`.
pub(super) fn read(
    table: &mut Table<'_>,
    folder: &Path,
    default: SocketAddr,
) -> (Listener, Vec<Listener>) {
    const SHAPE: &str = "write `[[server.listeners]]` with `listen`";

    let has_own = ["listen", "tls", "proxy_protocol", "redirect"].iter().any(|key| table.has(key));
    let own = one(table, folder, default);
    let mut known = Vec::from_iter(has_own.then_some(own.listen));
    let mut more = VecDeque::new();
    let listed = table.take("listeners").and_then(|value| value.list(|| SHAPE.to_owned()));
    for value in listed.unwrap_or_default() {
        let label = "[[server.listeners]]";
        let Some(mut table) = value.table(label, || SHAPE.to_owned()) else { continue };
        let is_said = table.has("listen");
        if !is_said {
            table.missing("listen", "write listen = \"0.0.0.0:443\"");
        }
        let listener = one(&mut table, folder, default);
        let Listener { listen, .. } = listener;
        if let Some(taken) = known.iter().find(|it| is_said && collide(**it, listen)) {
            let hint = Some("give each listener an address of its own".to_owned());
            let message = if *taken == listen {
                format!("listen `{listen}` stands twice")
            } else {
                format!("listen `{listen}` is not free beside `{taken}`")
            };
            table.report(table.place, &message, hint);
        }
        known.push(listen);
        table.finish();
        more.push_back(listener);
    }
    let first = if has_own { own } else { more.pop_front().unwrap_or(own) };
    (first, more.into())
}

fn one(table: &mut Table<'_>, folder: &Path, default: SocketAddr) -> Listener {
    let place = table.place_of("redirect");
    let listener = Listener {
        listen: table.read("listen", default, listen),
        tls: tls(table, folder),
        proxy: proxy(table),
        redirect: table.read("redirect", None, |text| redirect(text).map(Some)),
    };
    if let Some(place) = place.filter(|_| listener.tls.is_some() && listener.redirect.is_some()) {
        let hint = Some("leave `tls` out: who comes in cleartext is sent elsewhere".to_owned());
        table.report(place, "redirect is there, and `tls` as well", hint);
    }
    listener
}

fn redirect(text: &str) -> Result<u16, Wrong> {
    let port = match text {
        "https" => Some(443),
        _ => text.strip_prefix("https:").and_then(|port| port.parse().ok()),
    };
    port.filter(|port| *port > 0).ok_or_else(|| {
        Wrong::new("is not where to send who comes in cleartext")
            .with_hint("write \"https\", or \"https:8443\" with the port of the other listener")
    })
}

/// What `proxy_protocol` says; none if it is not there, or `false`.
fn proxy(table: &mut Table<'_>) -> Option<ProxyProtocol> {
    const SHAPE: &str = "write `true`, or { from = [\"10.0.0.0/8\"] } with the proxies to believe";

    let value = table.take("proxy_protocol")?;
    if let DeValue::Boolean(asks) = value.content {
        return asks.then_some(ProxyProtocol { from: None, accepts_others: false });
    }
    if !matches!(value.content, DeValue::Table(_)) {
        return value.not_a("a boolean or a table", Some(SHAPE.to_owned()));
    }
    let label = format!("{} proxy_protocol", table.label);
    let mut table = value.table(&label, || SHAPE.to_owned())?;
    let from = table.take("from");
    if from.is_none() {
        table.missing("from", "write from = [\"10.0.0.0/8\"], the proxies to believe");
    }
    let from = from.and_then(|from| from.list(|| SHAPE.to_owned())).unwrap_or_default();
    let from = from.iter().filter_map(|one| one.read(network)).collect();
    let accepts_others = table.read("others", false, |text| match text {
        "refuse" => Ok(false),
        "accept" => Ok(true),
        _ => Err(Wrong::new("is neither `refuse` nor `accept`")
            .with_hint("write \"accept\" to serve connections that have no header")),
    });
    table.finish();
    Some(ProxyProtocol { from: Some(from), accepts_others })
}

/// What `tls` says; none if it is not there, or says nothing that can be used.
fn tls(table: &mut Table<'_>, folder: &Path) -> Option<ListenerTls> {
    let value = table.take("tls")?;
    let label = format!("{} tls", table.label);
    let mut tls = value.table(&label, || SHAPE.to_owned())?;
    let several = tls.take("certificates");
    let has_one = tls.has("certificate") || tls.has("key");
    let certificates = match several {
        Some(several) => {
            if has_one {
                let hint = "write `certificates`, or `certificate` and `key`, not both".to_owned();
                several.report("there are `certificates`, and one beside them", Some(hint));
                let _one = certificate(&mut tls, folder);
            }
            all(&several, folder)
        }
        None => certificate(&mut tls, folder).into_iter().collect(),
    };
    let clients = clients(&mut tls, folder);
    tls.finish();
    (!certificates.is_empty()).then_some(ListenerTls { certificates, clients })
}

/// None if clients are not asked for certificates, or it is not said whose are believed.
fn clients(table: &mut Table<'_>, folder: &Path) -> Option<Clients> {
    let ca = table.take("client_ca");
    let certificate = table.take("client_certificate");
    let field = table.take("client_cert_field");
    if ca.is_none()
        && let Some(value) = certificate.as_ref().or(field.as_ref())
    {
        let hint = "write client_ca = \"FILE\", with the authorities that vouch for clients";
        let message = "there is no `client_ca`, so no client's certificate is believed";
        value.report(message, Some(hint.to_owned()));
    }
    let required = certificate.and_then(|value| value.read(is_required));
    let field = field.and_then(|value| value.boolean());
    let ca = ca?;
    Some(Clients {
        place: ca.place,
        ca: ca.read(|text| file(text).map(|()| folder.join(text)))?,
        required: required.unwrap_or(true),
        field: field.unwrap_or(false),
    })
}

fn is_required(text: &str) -> Result<bool, Wrong> {
    match text {
        "require" => Ok(true),
        "request" => Ok(false),
        _ => Err(Wrong::new("is neither `require` nor `request`")
            .with_hint("write \"require\", or \"request\" to serve those without one, too")),
    }
}

fn all(value: &Value<'_>, folder: &Path) -> Vec<Certificate> {
    const SHAPE: &str =
        "write certificates = [{ certificate = \"FILE\", key = \"FILE\" }], or the same as tables";

    let Some(elements) = value.list(|| SHAPE.to_owned()) else { return Vec::new() };
    if elements.len() > MOST {
        value.report(&format!("certificates has more than {MOST}"), None);
    }
    let tables = elements.iter().filter_map(|it| it.inner_table(|| SHAPE.to_owned()));
    let read = |mut table: Table<'_>| {
        let certificate = certificate(&mut table, folder);
        table.finish();
        certificate
    };
    tables.filter_map(read).collect()
}

/// `certificate` and `key`, none of which may be missing.
pub(super) fn certificate(table: &mut Table<'_>, folder: &Path) -> Option<Certificate> {
    let mut path = |key| {
        let Some(value) = table.take(key) else {
            table.missing(key, SHAPE);
            return None;
        };
        value.read(|text| file(text).map(|()| folder.join(text)))
    };
    let (chain, key) = (path("certificate"), path("key"));
    Some(Certificate { chain: chain?, key: key?, place: table.place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_not_free_beside_one_of_them() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:81", false),
            ("127.0.0.1:0", "0.0.0.0:0", false),
            ("127.0.0.1:80", "[::]:80", false),
        ] {
            let [one, other] = [one, other].map(|it| it.parse().unwrap());
            assert_eq!(collide(one, other), expected, "{one} {other}");
            assert_eq!(collide(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_gateway_is_answered_where_a_client_without_more_is() {
        let on = |listen: &str| Listener::on(listen.parse().unwrap());
        let proxy = |from: Option<&str>, accepts_others| {
            let from = from.map(|from| vec![network(from).unwrap()]);
            Some(ProxyProtocol { from, accepts_others })
        };
        let tls = |required| {
            let (ca, place) = (PathBuf::new(), Place::default());
            let clients = Some(Clients { ca, place, required, field: false });
            Some(ListenerTls { certificates: Vec::new(), clients })
        };
        let all = on("0.0.0.0:80");
        for (listener, expected) in [
            (all.clone(), true),
            (Listener { redirect: Some(443), ..all.clone() }, false),
            (Listener { tls: tls(true), ..all.clone() }, false),
            (Listener { tls: tls(false), ..all.clone() }, true),
            (Listener { proxy: proxy(None, false), ..all.clone() }, false),
            (Listener { proxy: proxy(Some("10.0.0.0/8"), false), ..all.clone() }, false),
            (Listener { proxy: proxy(Some("10.0.0.0/8"), true), ..all.clone() }, true),
            (Listener { proxy: proxy(Some("127.0.0.1"), true), ..all }, false),
            (Listener { proxy: proxy(Some("10.0.0.0/8"), true), ..on("10.0.0.1:80") }, false),
            (Listener { proxy: proxy(Some("::1"), true), ..on("[::]:80") }, false),
        ] {
            assert_eq!(listener.answers_itself(), expected, "{listener:?}");
        }
    }
}
