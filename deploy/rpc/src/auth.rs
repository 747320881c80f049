//! Who sends a request: a JWT with an HMAC, as the Engine API of Ethereum's nodes does it.
//!
//! The token is `base64url(header).base64url(claims).base64url(HMAC-SHA-256(secret, both))`
//! (RFC 7515, RFC 7519). The secret is 32 bytes, in a file of 64 hexadecimal digits. The token
//! must have been issued within [`SKEW_S_MAX`] seconds of the box's clock, so a client makes a new
//! one for each call or each minute and nothing has to be revoked. Each tenant has its own secret;
//! the header's `kid` names the tenant.
//!
//! What is read is as narrow as it can be:
//!
//! - the algorithm is HS256 and nothing else, so that no token chooses its own check (`none`, or a
//!   public key used as an HMAC secret);
//! - the header holds `alg`, `kid` and perhaps `typ`; with anything else (`crit`, `jwk`, ...) the
//!   token is refused;
//! - base64 is the URL alphabet without padding, with no bits left over: a token has one spelling.
//!
//! A token of an unknown tenant is checked all the same, with a key drawn at start that nobody
//! knows, and answered with the same [`AuthError::Refused`] as a wrong signature. The
//! comparison of the signatures takes the same time wherever they differ. So neither the
//! answer nor its time tells which names exist.
//!
//! **Rotation.** A caller may have two secrets for a while: the new one, and the one before until its time is over. Whoever is
//! refused has been tried against two, with the decoy in the place of what is not there.
//!
//! **Derived secrets.** An HMAC can be checked only by who could also make it, so a box must have its tenants' secrets at
//! hand. [`Secret::derive`] makes them from one master key and a salt of each tenant: a store that holds the salts and not the
//! master key holds nothing that signs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeSliceError, Engine};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How far, in seconds, a token's `iat` may lie from the box's clock, on either side.
pub const SKEW_S_MAX: u64 = 60;

/// The longest token that is looked at. Ours have about 150 bytes; a client may add claims.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// The name of a caller that every secret ring may hold beside the tenants.
pub const OPERATOR: &str = "operator";

/// The name of the box's own fleet process, where there is one.
pub const FLEET: &str = "fleet";

/// The key of one tenant. It is wiped when it is dropped and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

/// Why a text is not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Too few or too many digits.
    #[error("a secret has 64 hexadecimal digits, got {got} characters")]
    Length {
        /// Bytes that were there, without `0x` and the end of the line.
        got: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("a secret has 64 hexadecimal digits; character {at} is none")]
    Digit {
        /// Where, counted from 0 after `0x`.
        at: usize,
    },
}

/// The secrets of all callers of one box.
pub struct Keyring {
    callers: HashMap<String, Held>,
    decoy: Key,
}

/// The secrets of one caller.
struct Held {
    key: Key,
    /// The one before, and until when it is taken, in seconds of Unix time.
    before: Option<(Key, u64)>,
}

/// A secret, hashed in as HMAC begins (RFC 2104, section 4): that is the same for each token. It is wiped when it is dropped.
type Key = Hmac<Sha256>;

/// Why a request has no caller. The peer reads only that it is not authorised; this is for the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// No `Authorization: Bearer`.
    #[error("no bearer token")]
    Missing,
    /// Longer than any token of ours.
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes, got {got}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not three parts in base64url with JSON in the first.
    #[error("not a token: {0}")]
    Malformed(&'static str),
    /// Another algorithm than HS256.
    #[error("a token is signed with HS256, and this one names another algorithm")]
    Algorithm,
    /// No such tenant, or not its signature: nobody is told which.
    #[error("unknown tenant or wrong signature")]
    Refused,
    /// Signed well, and its claims cannot be read.
    #[error("claims cannot be read: {0}")]
    Claims(&'static str),
    /// Signed well, and too old or from the future.
    #[error("issued at {iat}, more than {SKEW_S_MAX} s from {now}")]
    Stale {
        /// What the token says.
        iat: u64,
        /// What the box says.
        now: u64,
    },
    /// Signed well, and past its own end.
    #[error("expired at {exp}, now it is {now}")]
    Expired {
        /// What the token says.
        exp: u64,
        /// What the box says.
        now: u64,
    },
}

impl Secret {
    /// Takes 32 bytes as they are.
    pub fn from_bytes(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// Reads the text of a secret file: 64 hexadecimal digits, with or without `0x` before and the
    /// end of a line after them. Whether others may read the file is for the caller to ask.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() != 64 {
            return Err(SecretError::Length { got: digits.len() });
        }
        if let Some(at) = digits.bytes().position(|byte| !byte.is_ascii_hexdigit()) {
            return Err(SecretError::Digit { at });
        }
        let mut secret = Secret([0; 32]);
        hex::decode_to_slice(digits, &mut secret.0)
            .map_err(|_| SecretError::Length { got: digits.len() })?;
        Ok(secret)
    }

    /// The secret of a tenant, of which this is the master key. Another salt gives another secret.
    pub fn derive(&self, tenant: &str, salt: &[u8; 16]) -> Secret {
        let mut mac = hmac_sha256(&self.0, DERIVATION);
        mac.update(salt);
        mac.update(tenant.as_bytes());
        Secret(mac.finalize().into_bytes().into())
    }

    /// The bytes, for another use of such a secret.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text of a secret file, with the end of the line.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let mut text = hex::encode(self.0);
        text.push('\n');
        Zeroizing::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

impl Keyring {
    /// A ring with no callers. `decoy` is drawn at random at each start; tokens of unknown tenants
    /// are checked against it.
    pub fn new(decoy: Secret) -> Keyring {
        Keyring {
            callers: HashMap::new(),
            decoy: keyed(&decoy.0),
        }
    }

    /// Adds a caller, or gives it this secret in the place of those that it had.
    pub fn insert(&mut self, name: &str, secret: Secret) {
        self.hold(name, secret, None);
    }

    /// As [`Keyring::insert`], with another secret that is taken too, until a second of Unix time.
    pub fn hold(&mut self, name: &str, secret: Secret, before: Option<(Secret, u64)>) {
        let held = Held {
            key: keyed(&secret.0),
            before: before.map(|(secret, until)| (keyed(&secret.0), until)),
        };
        self.callers.insert(name.to_owned(), held);
    }

    /// Removes a caller: its tokens are answered as those of somebody who never was.
    pub fn remove(&mut self, name: &str) {
        self.callers.remove(name);
    }

    /// Names the caller of a request from its `Authorization` header field. `now` is Unix time in
    /// seconds.
    pub fn verify(&self, authorization: Option<&str>, now: u64) -> Result<&str, AuthError> {
        let token = bearer(authorization.ok_or(AuthError::Missing)?)?;
        let token = Token::split(token)?;
        let mut room = Room::default();
        let kid = token.header(&mut room)?.kid.0;
        let (name, key, before) = match self.callers.get_key_value(&*kid) {
            Some((name, held)) => {
                let before = held.before.as_ref().filter(|(_, until)| now < *until);
                (Some(name), &held.key, before.map(|(key, _)| key))
            }
            None => (None, &self.decoy, None),
        };
        // A good token of the newest secret costs one check, every other two.
        let signed = token.is_signed_with(key)
            || token.is_signed_with(before.unwrap_or(&self.decoy)) & before.is_some();
        let Some(name) = name.filter(|_| signed) else {
            return Err(AuthError::Refused);
        };
        token.claims(&mut Room::default())?.hold(now)?;
        Ok(name)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Keyring({} callers)", self.callers.len())
    }
}

/// Makes a token for `name`, issued at `iat` (Unix time in seconds), as a client does. It goes into
/// the `Authorization` header field after `Bearer `.
pub fn sign(name: &str, secret: &Secret, iat: u64) -> String {
    let header = serde_json::json!({ "alg": "HS256", "kid": name, "typ": "JWT" });
    let claims = serde_json::json!({ "iat": iat });
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let signature = hmac_sha256(&secret.0, token.as_bytes()).finalize();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature.into_bytes(), &mut token);
    token
}

fn bearer(field: &str) -> Result<&str, AuthError> {
    let (scheme, token) = field.split_once(' ').ok_or(AuthError::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Missing);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AuthError::TooLong { got: token.len() });
    }
    Ok(token)
}

/// A token in its three parts, not yet believed.
struct Token<'a> {
    signed: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: [u8; 32],
}

/// The header. A field that is not named here is refused with the token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow)]
    kid: Text<'a>,
    #[serde(borrow, default)]
    typ: Option<Text<'a>>,
}

/// A string where it stands, unless it has to be unescaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The claims that are looked at; a client may send others.
#[derive(Deserialize)]
struct Claims {
    iat: u64,
    #[serde(default)]
    exp: Option<u64>,
}

impl<'a> Token<'a> {
    fn split(token: &'a str) -> Result<Token<'a>, AuthError> {
        let malformed = AuthError::Malformed("expected three parts with dots between them");
        let Some((signed, signature)) = token.rsplit_once('.') else {
            return Err(malformed);
        };
        let Some((header, claims)) = signed.split_once('.') else {
            return Err(malformed);
        };
        let signature = Room::default()
            .decode(signature)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or(AuthError::Malformed("expected a signature of 32 bytes"))?;
        Ok(Token {
            signed,
            header,
            claims,
            signature,
        })
    }

    fn header<'r>(&self, room: &'r mut Room) -> Result<Header<'r>, AuthError> {
        let header: Header<'r> = room
            .decode(self.header)
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or(AuthError::Malformed(
                "expected a header of alg, kid and perhaps typ",
            ))?;
        if header.alg.0 != "HS256" {
            return Err(AuthError::Algorithm);
        }
        if header
            .typ
            .as_ref()
            .is_some_and(|typ| !typ.0.eq_ignore_ascii_case("JWT"))
        {
            return Err(AuthError::Malformed("expected typ to be JWT"));
        }
        Ok(header)
    }

    fn is_signed_with(&self, key: &Key) -> bool {
        let mut mac = key.clone();
        mac.update(self.signed.as_bytes());
        mac.finalize()
            .into_bytes()
            .as_slice()
            .ct_eq(&self.signature)
            .into()
    }

    fn claims(&self, room: &mut Room) -> Result<Claims, AuthError> {
        room.decode(self.claims)
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or(AuthError::Claims("expected iat, a whole number of seconds"))
    }
}

/// Where a part of a token is decoded: each call has a token, and those of ours find room without asking for memory.
struct Room {
    few: [u8; FEW_BYTES],
    many: Vec<u8>,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            few: [0; FEW_BYTES],
            many: Vec::new(),
        }
    }
}

impl Room {
    /// Nothing for what is not base64 in its one spelling.
    fn decode(&mut self, part: &str) -> Option<&[u8]> {
        match URL_SAFE_NO_PAD.decode_slice(part, &mut self.few) {
            Ok(length) => Some(&self.few[..length]),
            Err(DecodeSliceError::OutputSliceTooSmall) => {
                self.many = URL_SAFE_NO_PAD.decode(part).ok()?;
                Some(&self.many)
            }
            Err(DecodeSliceError::DecodeError(_)) => None,
        }
    }
}

impl Claims {
    fn hold(&self, now: u64) -> Result<(), AuthError> {
        if self.iat.abs_diff(now) > SKEW_S_MAX {
            return Err(AuthError::Stale { iat: self.iat, now });
        }
        match self.exp {
            Some(exp) if exp <= now => Err(AuthError::Expired { exp, now }),
            _ => Ok(()),
        }
    }
}

fn keyed(key: &[u8]) -> Key {
    Key::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Key {
    let mut mac = keyed(key);
    mac.update(message);
    mac
}

/// What a part of a token has room in; those of [`sign`] have fewer than fifty bytes beside the name.
const FEW_BYTES: usize = 256;

/// Keeps derived secrets apart from all else that the master key may ever be used for.
const DERIVATION: &[u8] = b"caldera tenant secret v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn ring() -> Keyring {
        let mut ring = Keyring::new(Secret([9; 32]));
        ring.insert("rollup", Secret([1; 32]));
        ring.insert("games", Secret([2; 32]));
        ring
    }

    fn verify(token: &str) -> Result<String, AuthError> {
        ring()
            .verify(Some(&format!("Bearer {token}")), NOW)
            .map(str::to_owned)
    }

    /// Signs any header and claims.
    fn forge(header: &str, claims: &str, key: [u8; 32]) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = hmac_sha256(&key, signed.as_bytes()).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// RFC 7515, appendix A.1: the published key, token and signature.
    #[test]
    fn rfc_7515_a_1() {
        let key = URL_SAFE_NO_PAD
            .decode(
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75\
                 aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            )
            .unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                     .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                     cGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
                     .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let token = Token::split(token).unwrap();
        assert!(token.is_signed_with(&keyed(&key)));
        assert!(!token.is_signed_with(&keyed(&key[..63])));
        // It names no tenant, so as a whole it is not for us.
        assert!(token.header(&mut Room::default()).is_err());
    }

    /// Made in a shell with OpenSSL's HMAC, in the way that docs/protocol.md shows.
    #[test]
    fn a_token_made_by_openssl() {
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJvbGx1cCJ9.eyJpYXQiOjE4MDAwMDAwMDB9.cgnfHIkoXkRLjPtPYcLeC2OvnfyZGS9liVq_Kw6cwkk";
        assert_eq!(verify(token).unwrap(), "rollup");
    }

    #[test]
    fn each_tenant_is_named_by_its_own_secret() {
        assert_eq!(
            verify(&sign("rollup", &Secret([1; 32]), NOW)).unwrap(),
            "rollup"
        );
        assert_eq!(
            verify(&sign("games", &Secret([2; 32]), NOW)).unwrap(),
            "games"
        );
        let swapped = verify(&sign("games", &Secret([1; 32]), NOW));
        assert_eq!(swapped, Err(AuthError::Refused));
    }

    #[test]
    fn unknown_tenant_and_bad_signature_are_one_error() {
        let wrong = verify(&sign("rollup", &Secret([3; 32]), NOW)).unwrap_err();
        let unknown = verify(&sign("nobody", &Secret([1; 32]), NOW)).unwrap_err();
        // Whoever knew the decoy would still be nobody.
        let decoy = verify(&sign("nobody", &Secret([9; 32]), NOW)).unwrap_err();
        assert_eq!(wrong, AuthError::Refused);
        assert_eq!(unknown, AuthError::Refused);
        assert_eq!(decoy, AuthError::Refused);
        // A stale token of either kind says nothing of its age.
        let stale = verify(&sign("nobody", &Secret([1; 32]), 0)).unwrap_err();
        assert_eq!(stale, AuthError::Refused);
    }

    #[test]
    fn a_token_lives_a_minute_on_either_side() {
        for (iat, fine) in [
            (NOW - 61, false),
            (NOW - 60, true),
            (NOW + 60, true),
            (NOW + 61, false),
            (0, false),
            (u64::MAX, false),
        ] {
            let outcome = verify(&sign("rollup", &Secret([1; 32]), iat));
            assert_eq!(outcome.is_ok(), fine, "{iat}");
            if !fine {
                assert_eq!(outcome, Err(AuthError::Stale { iat, now: NOW }));
            }
        }
    }

    #[test]
    fn expiry_is_held() {
        let header = r#"{"alg":"HS256","kid":"rollup"}"#;
        for (exp, fine) in [(NOW - 1, false), (NOW, false), (NOW + 1, true)] {
            let claims = format!(r#"{{"iat":{NOW},"exp":{exp}}}"#);
            assert_eq!(verify(&forge(header, &claims, [1; 32])).is_ok(), fine);
        }
    }

    #[test]
    fn odd_headers_are_refused() {
        let claims = format!(r#"{{"iat":{NOW},"id":"x"}}"#);
        let outcome = |header: &str| verify(&forge(header, &claims, [1; 32]));
        assert!(outcome(r#"{"alg":"HS256","kid":"rollup","typ":"jwt"}"#).is_ok());
        assert!(outcome(r#"{"kid":"rollup","alg":"HS256"}"#).is_ok());
        for header in [
            r#"{"alg":"none","kid":"rollup"}"#,
            r#"{"alg":"hs256","kid":"rollup"}"#,
            r#"{"alg":"HS384","kid":"rollup"}"#,
            r#"{"alg":"RS256","kid":"rollup"}"#,
        ] {
            assert_eq!(outcome(header), Err(AuthError::Algorithm), "{header}");
        }
        for header in [
            r#"{"alg":"HS256"}"#,
            r#"{"kid":"rollup"}"#,
            r#"{"alg":"HS256","kid":"rollup","kid":"rollup"}"#,
            r#"{"alg":"none","alg":"HS256","kid":"rollup"}"#,
            r#"{"alg":"HS256","kid":"rollup","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","kid":"rollup","jwk":{}}"#,
            r#"{"alg":"HS256","kid":"rollup","typ":"JWE"}"#,
            r#"{"alg":"HS256","kid":7}"#,
            r#"{"alg":["HS256"],"kid":"rollup"}"#,
            "",
            "[]",
        ] {
            let outcome = outcome(header);
            assert!(matches!(outcome, Err(AuthError::Malformed(_))), "{header}");
        }
    }

    #[test]
    fn odd_claims_are_refused() {
        for claims in [
            "",
            "{}",
            r#"{"iat":"1800000000"}"#,
            r#"{"iat":-1}"#,
            r#"{"iat":1800000000.5}"#,
            r#"{"iat":1800000000,"iat":1800000000}"#,
            r#"{"iat":1800000000,"exp":"x"}"#,
        ] {
            let token = forge(r#"{"alg":"HS256","kid":"rollup"}"#, claims, [1; 32]);
            let outcome = verify(&token);
            assert!(matches!(outcome, Err(AuthError::Claims(_))), "{claims}");
        }
    }

    /// The danger: what finds no room on the stack is read otherwise.
    #[test]
    fn long_parts_are_read_like_short_ones() {
        for length in [0, 150, FEW_BYTES - 70, FEW_BYTES, 700] {
            let name = "n".repeat(length);
            let mut ring = ring();
            ring.insert(&name, Secret([5; 32]));
            let header = format!(r#"{{"alg":"HS256","kid":"{name}"}}"#);
            let claims = format!(r#"{{"iat":{NOW},"more":"{name}"}}"#);
            let field = format!("Bearer {}", forge(&header, &claims, [5; 32]));
            assert_eq!(ring.verify(Some(&field), NOW), Ok(name.as_str()));
            let forged = format!("Bearer {}", forge(&header, &claims, [6; 32]));
            assert_eq!(ring.verify(Some(&forged), NOW), Err(AuthError::Refused));
            let signed = format!("{field}A");
            assert!(ring.verify(Some(&signed), NOW).is_err());
        }
        // A name that is written with an escape is the same name.
        let header = r#"{"alg":"HS256","kid":"\u0072ollup"}"#;
        let token = forge(header, &format!(r#"{{"iat":{NOW}}}"#), [1; 32]);
        assert_eq!(verify(&token).unwrap(), "rollup");
    }

    /// One byte changed anywhere, and every cut, is refused.
    #[test]
    fn a_token_has_one_spelling() {
        let token = sign("rollup", &Secret([1; 32]), NOW);
        assert!(verify(&token).is_ok());
        for at in 0..token.len() {
            assert!(verify(&token[..at]).is_err(), "cut at {at}");
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(
                verify(&String::from_utf8(other).unwrap()).is_err(),
                "changed at {at}"
            );
        }
        for other in [
            format!("{token}="),
            format!("{token}."),
            format!(".{token}"),
            format!("{token} "),
            format!(" {token}"),
            format!("{token}A"),
        ] {
            assert!(verify(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_scheme_is_bearer() {
        let token = sign("rollup", &Secret([1; 32]), NOW);
        let ring = ring();
        let outcome = |field: &str| ring.verify(Some(field), NOW);
        assert_eq!(outcome(&format!("bearer {token}")), Ok("rollup"));
        assert_eq!(outcome(&format!("Basic {token}")), Err(AuthError::Missing));
        assert_eq!(outcome(&token), Err(AuthError::Missing));
        assert_eq!(outcome(""), Err(AuthError::Missing));
        assert_eq!(ring.verify(None, NOW), Err(AuthError::Missing));
        let long = format!("Bearer {}", "A".repeat(TOKEN_BYTES_MAX + 1));
        let got = TOKEN_BYTES_MAX + 1;
        assert_eq!(outcome(&long), Err(AuthError::TooLong { got }));
    }

    #[test]
    fn secret_files() {
        let digits = "0f".repeat(32);
        for text in [
            digits.clone(),
            format!("0x{digits}"),
            format!("{digits}\n"),
            format!("0x{digits}\r\n"),
            digits.to_uppercase(),
        ] {
            assert_eq!(Secret::parse(&text).unwrap().0, [0x0f; 32]);
        }
        for text in [
            String::new(),
            digits[1..].to_owned(),
            format!("{digits}0"),
            format!("{digits}\n\n"),
            format!(" {digits}"),
            format!("0X{digits}"),
        ] {
            assert!(
                matches!(Secret::parse(&text), Err(SecretError::Length { .. })),
                "{text:?}"
            );
        }
        let mut wrong = digits.clone();
        wrong.replace_range(5..6, "g");
        assert_eq!(
            Secret::parse(&wrong).unwrap_err(),
            SecretError::Digit { at: 5 }
        );
        let secret = Secret::parse(&digits).unwrap();
        assert_eq!(secret.to_file_text().as_str(), format!("{digits}\n"));
        assert!(!format!("{secret:?}").contains("0f"));
        assert!(!format!("{:?}", ring()).contains("rollup"));
    }

    #[test]
    fn after_a_rotation_both_secrets_are_taken_for_a_while() {
        let mut ring = ring();
        let (old, new) = (Secret([1; 32]), Secret([7; 32]));
        let by = |secret: &Secret, at: u64| format!("Bearer {}", sign("rollup", secret, at));
        ring.hold("rollup", new.clone(), Some((old.clone(), NOW + 100)));
        assert_eq!(ring.verify(Some(&by(&new, NOW)), NOW), Ok("rollup"));
        assert_eq!(ring.verify(Some(&by(&old, NOW)), NOW), Ok("rollup"));
        let later = NOW + 100;
        assert_eq!(ring.verify(Some(&by(&new, later)), later), Ok("rollup"));
        assert_eq!(
            ring.verify(Some(&by(&old, later)), later),
            Err(AuthError::Refused)
        );
        // The decoy is nobody's second secret.
        let decoy = by(&Secret([9; 32]), NOW);
        assert_eq!(ring.verify(Some(&decoy), NOW), Err(AuthError::Refused));
        ring.remove("rollup");
        assert_eq!(
            ring.verify(Some(&by(&new, NOW)), NOW),
            Err(AuthError::Refused)
        );
    }

    #[test]
    fn derived_secrets_differ_by_master_tenant_and_salt() {
        let master = Secret([3; 32]);
        let one = master.derive("a", &[0; 16]).0;
        assert_eq!(one, master.derive("a", &[0; 16]).0);
        for other in [
            master.derive("b", &[0; 16]),
            master.derive("a", &[1; 16]),
            Secret([4; 32]).derive("a", &[0; 16]),
        ] {
            assert_ne!(one, other.0);
        }
    }
}
