//! The dashboard's page as it is embedded: the files of `deploy/dashboard`, and the fields that go with them.
//!
//! There is no build step: what is in the tree is what a browser is given. The page asks for nothing but what is listed here and
//! for what `service/dashboard.rs` answers, and its policy (W3C, Content Security Policy Level 3) lets it do no other:
//! no script and no style but of this list, no form, no frame, no other origin.

use caldera_rpc::http::Response;

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

impl Page {
    /// The file of a name; the empty name is the page itself.
    pub fn find(name: &str) -> Option<&'static Page> {
        PAGES.iter().find(|page| page.name == name)
    }

    /// It as an answer.
    pub fn response(&self) -> Response<'static> {
        Response {
            content_type: Some(self.content_type),
            fields: &FIELDS,
            body: self.text.as_bytes(),
            ..Response::new(200)
        }
    }
}

/// What keeps a page among its own, whatever it is made to say.
const FIELDS: [(&str, &str); 4] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const PAGES: [Page; 6] = [
    Page {
        name: "",
        content_type: HTML,
        text: include_str!("../../dashboard/index.html"),
    },
    Page {
        name: "dashboard.js",
        content_type: SCRIPT,
        text: include_str!("../../dashboard/dashboard.js"),
    },
    Page {
        name: "style.css",
        content_type: STYLE,
        text: include_str!("../../dashboard/style.css"),
    },
    Page {
        name: "icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("../../dashboard/icon.svg"),
    },
    Page {
        name: "uPlot.iife.min.js",
        content_type: SCRIPT,
        text: include_str!("../../dashboard/uplot/uPlot.iife.min.js"),
    },
    Page {
        name: "uPlot.min.css",
        content_type: STYLE,
        text: include_str!("../../dashboard/uplot/uPlot.min.css"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page names is there, what is there it names, and nothing stands in it that its policy would refuse.
    #[test]
    fn the_page_names_its_files_and_no_others() {
        let page = Page::find("").expect("the page").text;
        let attributes = page.split(['"', '\'']);
        let named: Vec<&str> = attributes
            .filter(|it| [".js", ".css", ".svg"].iter().any(|end| it.ends_with(end)))
            .collect();
        for name in &named {
            assert!(Page::find(name).is_some(), "{name} is not embedded");
        }
        for file in PAGES.iter().filter(|file| !file.name.is_empty()) {
            assert!(named.contains(&file.name), "{} is not used", file.name);
        }
        for refused in ["<style", "style=", "onclick", "javascript:", "://"] {
            assert!(!page.contains(refused), "{refused}");
        }
        assert!(Page::find("../uplot/LICENSE").is_none());
    }
}
