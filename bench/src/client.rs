//! A small client of the program's public doors: REST over one kept connection, and the set-up of a tender to bid in.
//! Speaks just enough HTTP/1.1 for that; bids go over the socket (`load.rs`).

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The highest price of the tenders made here, in hundredths; far above zero for as many bids as a run can make.
pub const CEILING: i64 = 900_000_000_000;

/// The least improvement, in hundredths.
pub const DECREMENT: i64 = 1;

/// One kept HTTP/1.1 connection.
pub struct Http {
    address: String,
    stream: BufReader<TcpStream>,
}

/// What came back.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON, if the status is 2xx; otherwise an error that shows it.
    pub fn json(&self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "status {}: {}", self.status, self.body);
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {}", self.body))
    }
}

impl Http {
    /// Connects to `address`, `HOST:PORT`.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends one request and reads its answer. A body that is `Null` is none.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Response> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if let Some(token) = token {
            write!(head, "Authorization: Bearer {token}\r\n")?;
        }
        if let Some(key) = key {
            write!(head, "Idempotency-Key: {key}\r\n")?;
        }
        if !body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        write!(head, "Content-Length: {}\r\n\r\n{body}", body.len())?;
        self.stream.get_mut().write_all(head.as_bytes()).await?;
        self.read().await.with_context(|| format!("{method} {path}"))
    }

    async fn read(&mut self) -> Result<Response> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let Some(status) = status else { bail!("no status line: {first:?}") };
        let (mut length, mut chunked) = (0usize, false);
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16)?;
                let from = body.len();
                body.resize(from + size, 0);
                self.stream.read_exact(&mut body[from..]).await?;
                self.line().await?;
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            self.stream.read_exact(&mut body).await?;
        }
        Ok(Response { status, body: String::from_utf8(body)? })
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).await? > 0, "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}

/// An open tender and those who bid in it.
#[derive(Clone, Debug)]
pub struct Field {
    /// Ids of the lots.
    pub lots: Vec<String>,
    /// An access token of each bidder.
    pub bidders: Vec<String>,
}

/// Signs up a buyer and `bidders` suppliers, and opens tenders of `lots` lots altogether with all of them admitted.
/// `name` makes the accounts' addresses differ from those of an earlier run.
pub async fn set_up(address: &str, name: &str, lots: usize, bidders: usize) -> Result<Field> {
    let mut http = Http::connect(address).await?;
    let (buyer, _) = sign_up(&mut http, name, "buyer").await?;
    let mut suppliers = Vec::new();
    for number in 0..bidders {
        suppliers.push(sign_up(&mut http, &format!("{name}-{number}"), "supplier").await?);
    }
    let mut field = Field { lots: Vec::new(), bidders: Vec::new() };
    let mut left = lots;
    while left > 0 {
        let here = left.min(100);
        left -= here;
        let key = |what: &str| format!("{name}-{what}-{left}");
        let body = tender(here);
        let made = http.send("POST", "/v1/tenders", Some(&buyer), Some(&key("make")), &body).await?;
        let made = made.json().context("making a tender")?;
        let id = text(&made, "id")?;
        for lot in made["lots"].as_array().context("a tender has lots")? {
            field.lots.push(text(lot, "id")?);
        }
        for (number, (_, organisation)) in suppliers.iter().enumerate() {
            let body = json!({ "organisation": organisation });
            let path = format!("/v1/tenders/{id}/bidders");
            let key = key(&format!("admit-{number}"));
            http.send("POST", &path, Some(&buyer), Some(&key), &body).await?.json().context("admitting")?;
        }
        for stage in ["publish", "start"] {
            let path = format!("/v1/tenders/{id}/{stage}");
            http.send("POST", &path, Some(&buyer), Some(&key(stage)), &json!({})).await?.json().context(stage)?;
        }
    }
    field.bidders = suppliers.into_iter().map(|(token, _)| token).collect();
    Ok(field)
}

/// Registers a person with an organisation and signs in; the access token and the organisation's id.
async fn sign_up(http: &mut Http, name: &str, kind: &str) -> Result<(String, String)> {
    let email = format!("{name}-{kind}@example.org");
    let password = "correct horse battery staple";
    let organisation = json!({ "name": format!("{kind} {name}"), "kind": kind });
    let body = json!({ "email": email, "password": password, "name": name, "organisation": organisation });
    let made = http.send("POST", "/v1/auth/register", None, None, &body).await?.json().context("signing up")?;
    let organisation = text(&made["organisation"], "id")?;
    let body = json!({ "email": email, "password": password });
    let tokens = http.send("POST", "/v1/auth/token", None, None, &body).await?.json().context("signing in")?;
    Ok((text(&tokens, "access_token")?, organisation))
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value[field].as_str().with_context(|| format!("no {field} in {value}"))?;
    Ok(text.to_owned())
}

fn tender(lots: usize) -> Value {
    let rules = json!({
        "format": "english", "duration_s": 86_400, "ceiling": price(CEILING),
        "decrement": { "kind": "amount", "value": price(DECREMENT) },
        "overtime": { "window_s": 120, "length_s": 120 },
    });
    let item = json!({ "description": "OEM 52119-0K", "quantity": "2", "unit": "piece" });
    let lot = json!({ "title": "Bumper", "items": [item], "rules": rules });
    json!({ "title": "Load", "currency": "SAR", "access": "invited", "lots": vec![lot; lots] })
}

/// A price in hundredths as it is written on the wire.
pub fn price(hundredths: i64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The sum over all labels of each metric that the admin listener shows, for those whose name is asked.
pub async fn metric(admin: &str, name: &str) -> Result<f64> {
    let mut http = Http::connect(admin).await?;
    let response = http.send("GET", "/metrics", None, None, &Value::Null).await?;
    ensure!(response.status == 200, "status {}", response.status);
    sum_of(&response.body, name).with_context(|| format!("{admin}/metrics has no {name}"))
}

fn sum_of(metrics: &str, name: &str) -> Option<f64> {
    let mut sum = None;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if rest.starts_with([' ', '{'])
            && let Some(value) = rest.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok())
        {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_decimal_strings() {
        assert_eq!(price(CEILING), "9000000000.00");
        assert_eq!(price(1), "0.01");
    }

    #[test]
    fn metrics_are_summed_over_labels() {
        let metrics = "# TYPE a counter\na{shard=\"1\"} 3\na{shard=\"2\"} 4\na_total 9\n";
        assert_eq!(sum_of(metrics, "a"), Some(7.0));
        assert_eq!(sum_of(metrics, "a_total"), Some(9.0));
        assert_eq!(sum_of(metrics, "b"), None);
    }
}
