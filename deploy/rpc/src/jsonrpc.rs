//! JSON-RPC 2.0: a body of bytes becomes requests, and answers become a body.
//!
//! The reader is stricter than the specification asks, wherever being generous would mean that two
//! readers of one request (a gateway that checks it and the box that runs it) may disagree:
//!
//! - an object with the same key twice is refused, at any depth;
//! - members beside `jsonrpc`, `method`, `params` and `id` are refused;
//! - nesting deeper than [`DEPTH_MAX`] and numbers longer than [`NUMBER_BYTES_MAX`] are refused before anything is
//!   parsed, and bytes after the value are refused too;
//! - an `id` is a string, an integer or null.
//!
//! Parameters go by name, in an object. Because many client libraries can only send an array, an
//! array that holds that one object, and an empty array where a method takes nothing, are read
//! too. A batch holds at most [`BATCH_MAX`] requests; its answers come in one array, in order,
//! with nothing in it for notifications.

mod at;
mod guard;

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::error::{RpcError, WireError};

use self::at::At;

pub use self::guard::{DEPTH_MAX, NUMBER_BYTES_MAX};

/// Requests in one batch. A host that proves a rollup asks after tens of jobs at once; the whole
/// body is bounded at one MiB beside this.
pub const BATCH_MAX: usize = 64;

/// A body that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Whether it was an array, so that the answer is one too.
    pub batch: bool,
    /// Each request, or why it is not one; exactly one if this is no batch, at least one if it is.
    pub entries: Vec<Result<Request, Refusal>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the answer is matched by; `None` is a notification, which is run and not answered.
    pub id: Option<Id>,
    /// The name of the method, not yet looked up.
    pub method: String,
    /// Its parameters.
    pub params: Params,
}

/// Parameters by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Params(Map<String, Value>);

/// Something in the place of a request that is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Its id where one could be read, or else null.
    pub id: Id,
    /// What is wrong.
    pub error: RpcError,
}

/// What the client matches an answer by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// An integer of 64 bits.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// A string.
    Text(String),
    /// `null`.
    Null,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The id of the request.
    pub id: Id,
    /// The result or the error.
    pub outcome: Result<Json, WireError>,
}

/// A value as it stands in an answer. A result is written when it is known and copied from there on: a tree of values
/// between the two would be built, walked and freed for nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Vec<u8>);

/// Why bytes are not a JSON-RPC 2.0 response.
#[derive(Debug, Error)]
pub enum ResponseError {
    /// Not JSON, or not the members that a response has.
    #[error("not a JSON-RPC response")]
    Json(#[from] serde_json::Error),
    /// Both or neither of `result` and `error`.
    #[error("a response holds either a result or an error; this one holds {0}")]
    Outcome(&'static str),
    /// Another version of the protocol.
    #[error("expected jsonrpc 2.0, got {0}")]
    Version(String),
}

/// Reads a body. An error here is about the whole body and is answered with a null id.
pub fn parse(body: &[u8]) -> Result<Message, RpcError> {
    guard::check(body)?;
    let batch = body.trim_ascii_start().first() == Some(&b'[');
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = match batch {
        true => Batch.deserialize(&mut reader),
        false => Entry.deserialize(&mut reader).map(|entry| (vec![entry], 1)),
    };
    let (entries, count) = read
        .and_then(|read| reader.end().map(|()| read))
        .map_err(|error| RpcError::Parse {
            detail: bounded(&error),
        })?;
    match count {
        0 => Err(RpcError::InvalidRequest {
            detail: "a batch holds at least one request".to_owned(),
        }),
        got if got > BATCH_MAX => Err(RpcError::InvalidRequest {
            detail: format!("a batch holds at most {BATCH_MAX} requests, got {got}"),
        }),
        _ => Ok(Message { batch, entries }),
    }
}

/// Writes the answers of one body; `None` if there is nothing to answer, which over HTTP is
/// status 204.
///
/// # Panics
///
/// If a body that was no batch has more than one answer.
pub fn encode<'a>(
    batch: bool,
    responses: impl IntoIterator<Item = &'a Response, IntoIter: Clone>,
) -> Option<Vec<u8>> {
    let responses = responses.into_iter();
    let bytes: usize = responses.clone().map(Response::bytes_about).sum();
    let mut body = Vec::with_capacity(bytes);
    for response in responses {
        match (batch, body.is_empty()) {
            (true, first) => body.push(if first { b'[' } else { b',' }),
            (false, first) => assert!(first, "one answer"),
        }
        response.write(&mut body);
    }
    if body.is_empty() {
        return None;
    }
    if batch {
        body.push(b']');
    }
    Some(body)
}

impl Json {
    /// Writes a value. An error for one that JSON cannot hold.
    pub fn of(value: &impl Serialize) -> Result<Json, serde_json::Error> {
        let mut text = Vec::with_capacity(RESULT_BYTES);
        serde_json::to_writer(&mut text, value)?;
        Ok(Json(text))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as the body of an answer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Json {
        Json(value.to_string().into_bytes())
    }
}

impl Request {
    /// Writes a request, as a client does.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("jsonrpc".to_owned(), "2.0".into());
        if let Some(id) = &self.id {
            members.insert("id".to_owned(), id.to_json());
        }
        members.insert("method".to_owned(), self.method.clone().into());
        members.insert("params".to_owned(), Value::Object(self.params.0.clone()));
        Value::Object(members)
    }
}

impl Params {
    /// The parameters that a client sends; `None` if the value is not an object in JSON.
    pub fn from_value(value: &impl Serialize) -> Option<Params> {
        match serde_json::to_value(value) {
            Ok(Value::Object(members)) => Some(Params(members)),
            _ => None,
        }
    }

    /// Reads them as what a method takes.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, RpcError> {
        T::deserialize(At(Value::Object(self.0)))
            .map_err(|error| RpcError::misfit(bounded(&error.path()), bounded(&error)))
    }
}

impl Refusal {
    /// Its answer.
    pub fn into_response(self) -> Response {
        Response::error(self.id, &self.error)
    }
}

impl Id {
    fn to_json(&self) -> Value {
        match self {
            Id::Unsigned(number) => (*number).into(),
            Id::Signed(number) => (*number).into(),
            Id::Text(text) => text.clone().into(),
            Id::Null => Value::Null,
        }
    }
}

impl Response {
    /// A result. A value that JSON cannot hold is a fault of ours and answers as one.
    pub fn result(id: Id, result: &impl Serialize) -> Response {
        let outcome = Json::of(result).map_err(|_| RpcError::Internal.to_wire());
        Response { id, outcome }
    }

    /// An error.
    pub fn error(id: Id, error: &RpcError) -> Response {
        Response {
            id,
            outcome: Err(error.to_wire()),
        }
    }

    /// Reads one response, as a client does.
    pub fn parse(body: &[u8]) -> Result<Response, ResponseError> {
        #[derive(Deserialize)]
        struct Members {
            jsonrpc: String,
            id: Id,
            #[serde(default, deserialize_with = "present")]
            result: Option<Value>,
            error: Option<WireError>,
        }
        /// Tells `"result": null` from no result.
        fn present<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Value>, D::Error> {
            Value::deserialize(reader).map(Some)
        }

        let members: Members = serde_json::from_slice(body)?;
        if members.jsonrpc != "2.0" {
            return Err(ResponseError::Version(members.jsonrpc));
        }
        let outcome = match (members.result, members.error) {
            (Some(result), None) => Ok(Json::from(&result)),
            (None, Some(error)) => Err(error),
            (Some(_), Some(_)) => return Err(ResponseError::Outcome("both")),
            (None, None) => return Err(ResponseError::Outcome("neither")),
        };
        Ok(Response {
            id: members.id,
            outcome,
        })
    }

    /// Appends it. Numbers, strings and errors always have a JSON form.
    fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        serde_json::to_writer(&mut *body, &self.id).expect("has a JSON form");
        match &self.outcome {
            Ok(result) => {
                body.extend_from_slice(br#","result":"#);
                body.extend_from_slice(&result.0);
            }
            Err(error) => {
                body.extend_from_slice(br#","error":"#);
                serde_json::to_writer(&mut *body, error).expect("has a JSON form");
            }
        }
        body.push(b'}');
    }

    /// For how many bytes room is made before it is written: enough for a result and a number as its id.
    fn bytes_about(&self) -> usize {
        let outcome = self.outcome.as_ref();
        ENVELOPE_BYTES + outcome.map_or(ENVELOPE_BYTES, |result| result.0.len())
    }
}

/// The members of a request as they were found; what is wrong with them is said when all were read.
#[derive(Default)]
struct Members {
    jsonrpc: Option<Value>,
    id: Option<Value>,
    method: Option<Value>,
    params: Option<Value>,
    /// The names of others.
    unknown: BTreeSet<String>,
}

impl Members {
    /// Reads an object. An error is one of the whole body.
    fn read<'de, A: MapAccess<'de>>(mut object: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = object.next_key_seed(MemberName)? {
            let (name, member) = match name {
                Name::Jsonrpc => ("jsonrpc", &mut members.jsonrpc),
                Name::Id => ("id", &mut members.id),
                Name::Method => ("method", &mut members.method),
                Name::Params => ("params", &mut members.params),
                Name::Unknown(name) => {
                    if members.unknown.contains(&name) {
                        return Err(twice(&name));
                    }
                    members.unknown.insert(name);
                    object.next_value_seed(Strict)?;
                    continue;
                }
            };
            if member.is_some() {
                return Err(twice(name));
            }
            *member = Some(object.next_value_seed(Strict)?);
        }
        Ok(members)
    }

    /// Makes a request of them.
    fn request(self) -> Result<Request, Refusal> {
        let refuse = |id: &Option<Id>, detail: String| Refusal {
            id: id.clone().unwrap_or(Id::Null),
            error: RpcError::InvalidRequest { detail },
        };
        let id = match self.id {
            None => None,
            Some(value) => match read_id(value) {
                Some(id) => Some(id),
                None => {
                    let detail = "expected id to be a string, an integer or null";
                    return Err(refuse(&None, detail.to_owned()));
                }
            },
        };
        if !matches!(&self.jsonrpc, Some(Value::String(version)) if version == "2.0") {
            return Err(refuse(&id, "expected jsonrpc to be \"2.0\"".to_owned()));
        }
        let Some(Value::String(method)) = self.method else {
            return Err(refuse(&id, "expected method to be a string".to_owned()));
        };
        if let Some(name) = self.unknown.first() {
            return Err(refuse(&id, bounded(&format_args!("unknown member {name}"))));
        }
        let params = match self.params {
            None => Params(Map::new()),
            Some(Value::Object(params)) => Params(params),
            Some(Value::Array(mut items)) => match (items.pop(), items.is_empty()) {
                (None, _) => Params(Map::new()),
                (Some(Value::Object(params)), true) => Params(params),
                _ => {
                    return Err(Refusal {
                        id: id.unwrap_or(Id::Null),
                        error: RpcError::misfit(
                            "",
                            "expected an object, or an array that holds one object",
                        ),
                    });
                }
            },
            Some(_) => {
                let detail = "expected params to be an object or an array";
                return Err(refuse(&id, detail.to_owned()));
            }
        };
        Ok(Request { id, method, params })
    }
}

fn read_id(value: Value) -> Option<Id> {
    match value {
        Value::Null => Some(Id::Null),
        Value::String(text) => Some(Id::Text(text)),
        Value::Number(number) => number
            .as_u64()
            .map(Id::Unsigned)
            .or_else(|| number.as_i64().map(Id::Signed)),
        _ => None,
    }
}

/// The text of an error, cut so that a peer's own long input is not sent back to it whole.
fn bounded(error: &dyn fmt::Display) -> String {
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(DETAIL_CHARS_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn twice<E: serde::de::Error>(key: &str) -> E {
    E::custom(format_args!("the key {key} stands twice in one object"))
}

/// Reads a batch: its entries, as far as there may be so many, and how many there are.
struct Batch;

impl<'de> DeserializeSeed<'de> for Batch {
    type Value = (Vec<Result<Request, Refusal>>, usize);

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Batch {
    type Value = (Vec<Result<Request, Refusal>>, usize);

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a batch")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        let mut count = 0;
        loop {
            let item = match entries.len() {
                BATCH_MAX => items.next_element_seed(Strict)?.map(drop),
                _ => items
                    .next_element_seed(Entry)?
                    .map(|entry| entries.push(entry)),
            };
            if item.is_none() {
                return Ok((entries, count));
            }
            count += 1;
        }
    }
}

/// Reads one request, straight from the text: its members are known by name, so nothing is looked for in a tree of
/// them. Only its parameters are one, for it is not known yet what they are to be.
struct Entry;

/// Reads the name of a member.
struct MemberName;

/// What members of a request are called.
enum Name {
    Jsonrpc,
    Id,
    Method,
    Params,
    Unknown(String),
}

fn no_object<E>() -> Result<Result<Request, Refusal>, E> {
    Ok(Err(Refusal {
        id: Id::Null,
        error: RpcError::InvalidRequest {
            detail: "expected an object".to_owned(),
        },
    }))
}

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = Result<Request, Refusal>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entry {
    type Value = Result<Request, Refusal>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element_seed(Strict)?.is_some() {}
        no_object()
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        Members::read(object).map(Members::request)
    }
}

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Name, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = Name;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(match name {
            "jsonrpc" => Name::Jsonrpc,
            "id" => Name::Id,
            "method" => Name::Method,
            "params" => Name::Params,
            name => Name::Unknown(name.to_owned()),
        })
    }
}

/// Reads any JSON value, and refuses what `serde_json::Value` would quietly settle: of two equal
/// keys it keeps the last.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(twice(&key));
            }
            let value = members.next_value_seed(Strict)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

const DETAIL_CHARS_MAX: usize = 256;
/// `{"jsonrpc":"2.0","id":,"result":},` with an id of up to 20 digits, and some.
const ENVELOPE_BYTES: usize = 64;
/// Where the status of a job has room, which is asked for most.
const RESULT_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::{JobName, JobQuery, ListCircuits};

    fn only(body: &str) -> Result<Request, Refusal> {
        let message = parse(body.as_bytes()).expect("a body");
        assert!(!message.batch);
        assert_eq!(message.entries.len(), 1);
        message.entries.into_iter().next().expect("one")
    }

    fn code(body: &str) -> i32 {
        match parse(body.as_bytes()) {
            Err(error) => error.code(),
            Ok(_) => only(body).expect_err("a refusal").error.code(),
        }
    }

    #[test]
    fn requests_and_notifications() {
        let request = only(r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1}}"#).unwrap();
        assert_eq!(request.id, Some(Id::Unsigned(7)));
        assert_eq!(request.method, "m");
        assert_eq!(only(r#"{"jsonrpc":"2.0","method":"m"}"#).unwrap().id, None);
        for (text, id) in [
            ("null", Id::Null),
            ("-3", Id::Signed(-3)),
            ("18446744073709551615", Id::Unsigned(u64::MAX)),
            (r#""x""#, Id::Text("x".to_owned())),
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"m"}}"#);
            assert_eq!(only(&body).unwrap().id, Some(id));
        }
    }

    #[test]
    fn parameters_by_name_or_as_one_object_in_an_array() {
        let expected = JobQuery { job: JobName(255) };
        for params in [
            r#"{"job":"0x00000000000000ff"}"#,
            r#"[{"job":"0x00000000000000ff"}]"#,
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
            let params = only(&body).unwrap().params;
            assert_eq!(params.decode::<JobQuery>().unwrap(), expected);
        }
        for params in [
            "",
            r#","params":[]"#,
            r#","params":{}"#,
            r#","params":[{}]"#,
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m"{params}}}"#);
            only(&body)
                .unwrap()
                .params
                .decode::<ListCircuits>()
                .unwrap();
        }
        for params in [
            r#"["0x00000000000000ff"]"#,
            r#"[[]]"#,
            r#"[{"job":"0x00000000000000ff"},{}]"#,
            r#"[{},{"job":"0x00000000000000ff"}]"#,
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
            let refusal = only(&body).unwrap_err();
            assert_eq!(refusal.error.code(), -32602);
            assert_eq!(refusal.id, Id::Unsigned(1));
        }
    }

    #[test]
    fn unknown_and_misspelt_parameters_are_refused() {
        for params in [
            r#"{"job":"0x00000000000000ff","more":1}"#,
            r#"{}"#,
            r#"{"job":"0x00000000000000FF"}"#,
            r#"{"job":"0xff"}"#,
            r#"{"job":255}"#,
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
            let error = only(&body).unwrap().params.decode::<JobQuery>();
            assert_eq!(error.unwrap_err().code(), -32602, "{params}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in [
            "",
            "{",
            "nul",
            r#"{"jsonrpc":"2.0","id":1,"method":"m"} x"#,
            r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1,"a":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[{"b":1,"\u0062":2}]}}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(code(body), -32700, "{body}");
        }
        for body in [
            "1",
            "null",
            "[]",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#,
            r#"{"id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":1}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":[],"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","more":1}"#,
        ] {
            assert_eq!(code(body), -32600, "{body}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            let inside = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{inside}}}}}"#)
        };
        assert!(only(&nested(DEPTH_MAX - 2)).is_ok());
        assert_eq!(code(&nested(DEPTH_MAX - 1)), -32700);
        assert_eq!(code(&nested(400_000)), -32700);
    }

    #[test]
    fn a_batch_keeps_its_order_and_is_bounded() {
        let good = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
        let message = parse(format!("[{good},3,{good},[{good}]]").as_bytes()).unwrap();
        assert!(message.batch);
        let fine: Vec<bool> = message.entries.iter().map(Result::is_ok).collect();
        assert_eq!(fine, [true, false, true, false]);

        let most = format!("[{}]", vec![good; BATCH_MAX].join(","));
        assert_eq!(parse(most.as_bytes()).unwrap().entries.len(), BATCH_MAX);
        let more = format!("[{}]", vec![good; BATCH_MAX + 1].join(","));
        assert_eq!(parse(more.as_bytes()).unwrap_err().code(), -32600);
    }

    /// The danger: what is not kept is not looked at either.
    #[test]
    fn all_of_a_body_is_read() {
        let many = |last: &str| format!("[{}{last}]", "1,".repeat(10_000));
        assert_eq!(code(&many("1")), -32600);
        assert_eq!(code(&many(r#"{"a":1,"a":1}"#)), -32700);
        assert_eq!(code(&many(r#"[{"a":{"b":1,"b":1}}]"#)), -32700);
        assert_eq!(code(&many("")), -32700);
        let request = |more: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m"{more}}}"#);
        assert!(only(&request("")).is_ok());
        for more in [
            r#","jsonrpc":"2.0""#,
            r#","\u006asonrpc":"2.0""#,
            r#","method":"m""#,
            r#","params":{},"params":{}"#,
            r#","more":1,"more":1"#,
            r#","more":{"a":1,"a":1}"#,
            r#","more":[1,{"a":1,"a":1}]"#,
            r#","params":[{},{"a":1,"a":1}]"#,
        ] {
            assert_eq!(code(&request(more)), -32700, "{more}");
        }
        for body in [
            r#"{"jsonrpc":{"a":1,"a":1},"id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":{"a":1,"a":1},"method":"m"}"#,
            r#"[[{"a":1,"a":1}]]"#,
        ] {
            assert_eq!(code(body), -32700, "{body}");
        }
        // The first of unknown names by the alphabet is told, wherever it stands.
        let refusal = only(&request(r#","z":1,"y":{},"x":[]"#)).unwrap_err();
        let told = refusal.error.to_string();
        assert!(told.ends_with("unknown member x"), "{told}");
    }

    #[test]
    fn answers_are_read_back() {
        let good = Response::result(Id::Unsigned(1), &5);
        let bad = Response::error(Id::Text("x".to_owned()), &RpcError::MethodNotFound);
        let single = encode(false, std::slice::from_ref(&good)).unwrap();
        assert_eq!(single, br#"{"jsonrpc":"2.0","id":1,"result":5}"#);
        assert_eq!(Response::parse(&single).unwrap(), good);
        assert_eq!(
            Response::parse(&encode(false, std::slice::from_ref(&bad)).unwrap()).unwrap(),
            bad
        );

        let both = encode(true, &[good.clone(), bad]).unwrap();
        let list: Vec<Value> = serde_json::from_slice(&both).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(encode(true, &[]), None);
        assert_eq!(encode(false, &[]), None);
        assert!(encode(true, &[good]).unwrap().starts_with(b"[{"));
    }

    #[test]
    fn a_response_is_a_result_or_an_error() {
        assert!(Response::parse(br#"{"jsonrpc":"2.0","id":1,"result":null}"#).is_ok());
        for body in [
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}"#,
            r#"{"jsonrpc":"1.0","id":1,"result":1}"#,
            r#"[]"#,
        ] {
            assert!(Response::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_long_detail_is_cut() {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","{}":1}}"#,
            "é".repeat(100_000)
        );
        let refusal = only(&body).unwrap_err();
        assert!(refusal.error.to_string().chars().count() < 2 * DETAIL_CHARS_MAX);
    }

    #[test]
    fn a_client_writes_what_the_box_reads() {
        let request = Request {
            id: Some(Id::Unsigned(1)),
            method: "prover_statusV1".to_owned(),
            params: Params::from_value(&JobQuery { job: JobName(1) }).unwrap(),
        };
        assert_eq!(only(&request.to_json().to_string()).unwrap(), request);
    }
}
