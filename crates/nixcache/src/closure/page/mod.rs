//! A closure as a page to look at: a treemap by NAR size, and a table to search and sort.
//!
//! [`Page`] writes one HTML document that needs nothing beside it: it opens from disk in any
//! browser, and asks the browser to forbid it the network. It streams: a row is written when it is
//! given, and none is kept.
//!
//! Nothing that is shown can become part of the document's code. A title and a store directory may
//! be any text, and stand only where HTML has text and attributes, escaped. The rows stand in a
//! script element, as JSON of numbers and of store paths, whose characters can neither end a string
//! nor the element.
//!
//! The browser computes the rest from the references: who refers to a path, the totals, and where
//! tiles lie.
//!
//! ```
//! use nixcache::closure::page::{Page, Row};
//! use nixcache::store_path::{StoreDir, StorePathRef};
//!
//! let hello = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12.1")?;
//! let glibc = StorePathRef::parse("1b9p07z77phvv2hf6gm9f28syp39f1ag-glibc-2.40")?;
//! let mut page = Page::begin(Vec::new(), "Closure of hello", &StoreDir::default())?;
//! let (nar_size, closure_size) = (226_560, 31_226_560);
//! page.row(&Row { path: hello, nar_size, closure_size, references: &[1], is_root: true })?;
//! let (nar_size, closure_size) = (31_000_000, 31_000_000);
//! page.row(&Row { path: glibc, nar_size, closure_size, references: &[], is_root: false })?;
//! let html = page.end()?;
//! assert!(html.starts_with(b"<!DOCTYPE html>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Write};

use crate::store_path::{StoreDir, StorePathRef};

/// The document up to the rows. Words in braces are filled in.
const HEAD: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page knows of one path of the closure.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The path.
    pub path: StorePathRef<'a>,
    /// Bytes of its NAR; 0 where they are not known: then it is in the table only.
    pub nar_size: u64,
    /// The sum of the NAR sizes in its own closure.
    pub closure_size: u64,
    /// The paths that it refers to: numbers of rows, which may come later, beginning at 0. Each
    /// stands here once; one to the path itself is left out of the page.
    pub references: &'a [u32],
    /// Whether the closure was asked for by this path.
    pub is_root: bool,
}

/// A page that is being written.
///
/// Browsers count in double precision: sizes beyond 2⁵³ bytes (9 petabytes) are shown rounded.
#[derive(Debug)]
pub struct Page<W> {
    out: W,
    rows: u64,
    /// The number of rows that the references so far need.
    needed: u64,
}

impl<W: Write> Page<W> {
    /// Begins a page. Many writes are small: give it a buffered sink.
    pub fn begin(mut out: W, title: &str, store_dir: &StoreDir) -> io::Result<Self> {
        for piece in HEAD.split(['{', '}']) {
            match piece {
                "title" => write_escaped(&mut out, title)?,
                "store_dir" => write_escaped(&mut out, store_dir.as_str())?,
                "style" => out.write_all(STYLE.as_bytes())?,
                text => out.write_all(text.as_bytes())?,
            }
        }
        Ok(Self { out, rows: 0, needed: 0 })
    }

    /// Adds a path.
    pub fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let mut digits = itoa::Buffer::new();
        // No character of a store path needs escaping in JSON, or can begin `</script` or `<!--`.
        self.out.write_all(if self.rows == 0 { b"[\n[\"" } else { b",\n[\"" })?;
        self.out.write_all(row.path.as_str().as_bytes())?;
        self.out.write_all(b"\"")?;
        for number in [row.nar_size, row.closure_size, row.is_root.into()] {
            self.number(digits.format(number))?;
        }
        for &reference in row.references {
            self.needed = self.needed.max(u64::from(reference) + 1);
            if u64::from(reference) != self.rows {
                self.number(digits.format(reference))?;
            }
        }
        self.rows += 1;
        self.out.write_all(b"]")
    }

    fn number(&mut self, digits: &str) -> io::Result<()> {
        self.out.write_all(b",")?;
        self.out.write_all(digits.as_bytes())
    }

    /// Ends the page, and gives the sink back, not flushed.
    ///
    /// A reference to a row that never came is an error of kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput); what was written is then no page.
    pub fn end(mut self) -> io::Result<W> {
        if self.needed > self.rows {
            let message = format!("a path refers to row {}, but there are {} rows", self.needed - 1, self.rows);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.out.write_all(if self.rows == 0 { b"[]" } else { b"\n]" })?;
        for piece in ["\n</script>\n<script>\n", SCRIPT, "</script>\n</body>\n</html>\n"] {
            self.out.write_all(piece.as_bytes())?;
        }
        Ok(self.out)
    }
}

/// Writes a text as HTML shows it, between tags and in quoted attributes.
fn write_escaped(out: &mut impl Write, text: &str) -> io::Result<()> {
    for piece in text.split_inclusive(['&', '<', '>', '"', '\'', '\0']) {
        let (plain, entity) = match piece.as_bytes() {
            [plain @ .., b'&'] => (plain, "&amp;"),
            [plain @ .., b'<'] => (plain, "&lt;"),
            [plain @ .., b'>'] => (plain, "&gt;"),
            [plain @ .., b'"'] => (plain, "&quot;"),
            [plain @ .., b'\''] => (plain, "&#39;"),
            // HTML has no way to write it.
            [plain @ .., b'\0'] => (plain, "\u{fffd}"),
            plain => (plain, ""),
        };
        out.write_all(plain)?;
        out.write_all(entity.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 3] = [
        "00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60",
        "0y839a054fcnhjcd2w1pb6a4k4fl38iw-a+b_c?d=e.f",
        "1b9p07z77phvv2hf6gm9f28syp39f1ag-glibc-2.40",
    ];

    fn row(path: &str, nar_size: u64) -> Row<'_> {
        let path = StorePathRef::parse(path).unwrap();
        Row { path, nar_size, closure_size: nar_size, references: &[], is_root: false }
    }

    fn page(title: &str, store_dir: &str, rows: &[Row<'_>]) -> io::Result<String> {
        let mut page = Page::begin(Vec::new(), title, &StoreDir::new(store_dir).unwrap())?;
        for row in rows {
            page.row(row)?;
        }
        Ok(String::from_utf8(page.end()?).unwrap())
    }

    /// What the script reads.
    fn rows_of(html: &str) -> &str {
        let (_, rows) = html.split_once("<script id=\"rows\" type=\"application/json\">\n").unwrap();
        rows.split_once("\n</script>").unwrap().0
    }

    #[test]
    fn rows_are_json_of_paths_and_numbers() {
        assert_eq!(rows_of(&page("", "/nix/store", &[]).unwrap()), "[]");
        let one = [Row { is_root: true, ..row(PATHS[0], 0) }];
        let expected = format!("[\n[\"{}\",0,0,1]\n]", PATHS[0]);
        assert_eq!(rows_of(&page("", "/nix/store", &one).unwrap()), expected);
        let largest = u64::MAX;
        let several = [
            Row { references: &[2, 1, 0], ..row(PATHS[0], 1) },
            Row { references: &[1], closure_size: 7, ..row(PATHS[1], largest) },
            Row { references: &[0], ..row(PATHS[2], 3) },
        ];
        let expected = format!(
            "[\n[\"{}\",1,1,0,2,1],\n[\"{}\",{largest},7,0],\n[\"{}\",3,3,0,0]\n]",
            PATHS[0], PATHS[1], PATHS[2]
        );
        assert_eq!(rows_of(&page("", "/nix/store", &several).unwrap()), expected);
    }

    #[test]
    fn a_reference_to_a_row_that_never_came_is_an_error() {
        let rows = [Row { references: &[1], ..row(PATHS[0], 1) }, Row { references: &[2], ..row(PATHS[1], 1) }];
        let error = page("", "/nix/store", &rows).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "a path refers to row 2, but there are 2 rows");
    }

    #[test]
    fn neither_title_nor_store_directory_can_become_markup() {
        let hostile =
            "/</title></script><script>alert(1)</script><!--\"'><img src=x onerror=alert(2)>&lt;\u{2028}{style}{title}";
        let html = page(&format!("\0{hostile}"), hostile, &[row(PATHS[0], 1)]).unwrap();
        let plain = page("", "/s", &[row(PATHS[0], 1)]).unwrap();
        for mark in ['<', '>', '"', '\''] {
            assert_eq!(html.matches(mark).count(), plain.matches(mark).count(), "{mark}");
        }
        let escaped = "/&lt;/title&gt;&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!--&quot;&#39;&gt;&lt;img src=x \
                       onerror=alert(2)&gt;&amp;lt;\u{2028}{style}{title}";
        assert!(html.contains(&format!("<title>\u{fffd}{escaped}</title>")));
        assert!(html.contains(&format!("data-store-dir=\"{escaped}\"")));
        assert!(!html.contains('\0'));
    }

    #[test]
    fn the_parts_fit_together() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        let names: Vec<&str> = HEAD.split(['{', '}']).skip(1).step_by(2).collect();
        assert_eq!(names, ["title", "style", "store_dir", "title"]);
        let html = page("t", "/s", &[]).unwrap();
        assert_eq!(html.matches("<script").count(), 2);
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
