//! The page of a closure does in a real browser what it says.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use conformance::{Browser, key};
use nixcache::closure::page::{Page, Row};
use nixcache::hash::Hash;
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use tempfile::TempDir;

/// One path that a test asks about.
struct Node {
    path: StorePath,
    nar_size: u64,
    references: Vec<u32>,
}

/// Paths of sizes that fall with their number: `count - 1` libraries of a few families, each
/// referring to two before it and to itself, and at last `app-1`, the root, which refers to the
/// first three.
fn closure(count: u32) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..count)
        .map(|number| {
            let mut hash = [0; HashPart::LEN];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            let family = ["glibc", "python3", "perl", "texlive", "linux"][number as usize % 5];
            Node {
                path: StorePath::new(HashPart::new(hash), &format!("{family}-{number}")).unwrap(),
                nar_size: u64::from(count - number) * 1_000,
                references: if number < 3 { vec![] } else { vec![number / 2, number - 1, number] },
            }
        })
        .collect();
    let root = nodes.last_mut().unwrap();
    root.path = StorePath::new(root.path.hash_part(), "app-1").unwrap();
    root.references = vec![0, 1, 2];
    nodes
}

/// Sizes of a path and of what it refers to, in place of its closure's: the page shows what it is
/// told.
fn closure_size(node: &Node, nodes: &[Node]) -> u64 {
    node.references.iter().fold(node.nar_size, |sum, &at| sum.saturating_add(nodes[at as usize].nar_size))
}

/// The paths that refer to one, but itself.
fn referrers(number: usize, nodes: &[Node]) -> Vec<usize> {
    let refers =
        |at: &usize| *at != number && nodes[*at].references.iter().any(|&reference| reference as usize == number);
    (0..nodes.len()).filter(refers).collect()
}

/// What this test shares among its pages: a browser, and where the pages lie.
struct Reader {
    browser: Browser,
    dir: TempDir,
}

impl Reader {
    fn start() -> Option<Self> {
        Some(Self { browser: Browser::start(1280, 800)?, dir: tempfile::tempdir().unwrap() })
    }

    fn open(&self, title: &str, store_dir: &str, nodes: &[Node]) {
        let file = self.dir.path().join("page.html");
        let out = BufWriter::new(File::create(&file).unwrap());
        let mut page = Page::begin(out, title, &StoreDir::new(store_dir).unwrap()).unwrap();
        for (number, node) in nodes.iter().enumerate() {
            let row = Row {
                path: node.path.as_ref(),
                nar_size: node.nar_size,
                closure_size: closure_size(node, nodes),
                references: &node.references,
                is_root: number + 1 == nodes.len(),
            };
            page.row(&row).unwrap();
        }
        page.end().unwrap().flush().unwrap();
        self.browser.open(&file);
    }

    /// The text of an element.
    fn shown(&self, selector: &str) -> String {
        self.browser.text(&format!("document.querySelector('{selector}').innerText"))
    }

    fn is_hidden(&self, selector: &str) -> bool {
        self.browser.value(&format!("document.querySelector('{selector}').hidden")).as_bool().unwrap()
    }

    /// The texts of the elements that an expression finds.
    fn texts(&self, elements: &str) -> Vec<String> {
        let texts = self
            .browser
            .value(&format!("[...{elements}].map(element => element.innerText.trim().replace(/\\s+/g, ' '))"));
        texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// Paths, NAR size and roots, as the head of the page says them.
    fn totals(&self) -> Vec<String> {
        self.texts("document.querySelectorAll('#totals dd')")
    }

    /// A column of the table, counted from 1, in the first rows.
    fn column(&self, column: usize, rows: usize) -> Vec<String> {
        self.texts(&format!("document.querySelectorAll('#body tr:nth-child(-n+{rows}) td:nth-child({column})')"))
    }

    fn rows(&self) -> u64 {
        self.browser.value("document.querySelectorAll('#body tr').length").as_u64().unwrap()
    }

    /// The treemap as it looks when it has been drawn: a hash, so that a failure can be read.
    fn picture(&self) -> Hash {
        self.browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
        Hash::sha256(self.browser.text("document.querySelector('#map').toDataURL()").as_bytes())
    }

    /// A place in the window: hundredths of the treemap from its left and top.
    fn place(&self, left: u32, top: u32) -> (i64, i64) {
        let at = |expression: &str| {
            self.browser
                .value(&format!(
                    "(box => Math.round({expression}))(document.querySelector('#map').getBoundingClientRect())"
                ))
                .as_i64()
                .unwrap()
        };
        (at(&format!("box.left + box.width * {left} / 100")), at(&format!("box.top + box.height * {top} / 100")))
    }

    /// The page is one file, and its script ran to the end.
    fn is_content(&self) {
        assert_eq!(self.browser.complaints(), Vec::<String>::new());
        assert_eq!(self.browser.value("performance.getEntriesByType('resource').length"), 0);
        assert_eq!(self.browser.value("document.scripts.length"), 2);
    }
}

#[test]
fn totals_table_search_and_sorting() {
    let Some(reader) = Reader::start() else { return };
    let browser = &reader.browser;
    let nodes = closure(300);
    reader.open("Closure of app-1", "/nix/store", &nodes);
    assert_eq!(browser.text("document.title"), "Closure of app-1");
    assert_eq!(nodes.iter().map(|node| node.nar_size).sum::<u64>(), 45_150_000);
    assert_eq!(reader.totals(), ["300", "43.1 MiB", "1"]);
    assert_eq!(browser.text("document.querySelectorAll('#totals dd')[1].title"), "45,150,000 bytes");

    // The largest first, and 200 rows until more are asked for.
    assert_eq!(reader.column(1, 3), ["glibc-0", "python3-1", "perl-2"]);
    assert_eq!(reader.column(2, 1), ["293 KiB"]);
    assert_eq!(browser.text("document.querySelector('#body td:nth-child(2)').title"), "300,000 bytes");
    assert_eq!(reader.rows(), 200);
    browser.click("#more");
    assert_eq!(reader.rows(), 300);
    assert!(reader.is_hidden("#more"));

    // By every column, by mouse and by keyboard, up and down.
    let order = |column: u32| browser.text(&format!("document.querySelector('th:nth-child({column})').ariaSort"));
    browser.click("[data-key=nar]");
    assert_eq!(order(2), "ascending");
    assert_eq!(reader.column(1, 2), ["app-1 root", "texlive-298"]);
    browser.press(key::TAB);
    browser.press(key::ENTER);
    assert_eq!(order(3), "descending");
    let largest = nodes.iter().map(|node| closure_size(node, &nodes)).max().unwrap();
    let shown = browser.text("document.querySelector('#body td:nth-child(3)').title").replace(',', "");
    assert_eq!(shown, format!("{largest} bytes"));
    browser.click("[data-key=name]");
    assert_eq!(order(1), "ascending");
    assert_eq!(reader.column(1, 2), ["app-1 root", "glibc-0"]);
    browser.click("[data-key=references]");
    assert_eq!(reader.column(4, 2), ["3", "2"], "one to itself does not count");
    browser.click("[data-key=referrers]");
    let most = (0..300).map(|number| referrers(number, &nodes).len()).max().unwrap();
    assert_eq!(reader.column(5, 1), [most.to_string()]);

    // A search leaves what has all its words, in the table and lit in the picture.
    let before = reader.picture();
    browser.type_into("#search", "PERL 7");
    let found =
        nodes.iter().filter(|node| node.path.as_str().contains("perl") && node.path.as_str().contains('7')).count();
    assert!((1..60).contains(&found));
    assert_eq!(reader.rows(), found as u64);
    assert!(reader.shown("#status").starts_with(&format!("{found} of 300 paths, ")));
    assert_ne!(reader.picture(), before);
    browser.type_into("#search", "nothing");
    assert_eq!(reader.rows(), 0);
    browser.press(key::ESCAPE);
    assert_eq!(reader.rows(), 200);
    assert_eq!(reader.picture(), before);
    // A hash part is found as well.
    browser.click("[data-key=nar]");
    browser.press("/");
    assert_eq!(browser.text("document.activeElement.id"), "search");
    browser.type_into("#search", &nodes[5].path.as_str()[..32]);
    assert_eq!(reader.column(1, 2), [nodes[5].path.name()]);
    reader.is_content();
}

#[test]
fn a_path_leads_to_its_references_and_referrers() {
    let Some(reader) = Reader::start() else { return };
    let browser = &reader.browser;
    let nodes = closure(300);
    reader.open("Closure of app-1", "/gnu/store", &nodes);
    let before = reader.picture();
    let linked = |list: &str| -> Vec<String> {
        let rest = format!(".{list} .rest");
        while !reader.is_hidden(&rest) {
            browser.click(&rest);
        }
        reader.texts(&format!("document.querySelectorAll('.{list} li span:first-child')"))
    };
    let is_selected = |number: usize| {
        let node = &nodes[number];
        assert_eq!(reader.shown("#panel h2"), node.path.name());
        assert_eq!(reader.shown("#panel .path"), format!("/gnu/store/{}", node.path.as_str()));
        // Both come largest first, which is the order of the numbers.
        let mut references: Vec<usize> =
            node.references.iter().map(|&at| at as usize).filter(|&at| at != number).collect();
        references.sort_unstable();
        let names =
            |numbers: Vec<usize>| numbers.iter().map(|&at| nodes[at].path.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(linked("references"), names(references));
        assert_eq!(linked("referrers"), names(referrers(number, &nodes)));
    };

    // By a click on its tile, which says its name while the pointer is there.
    let (x, y) = reader.place(45, 30);
    browser.click_at(x, y, 1);
    let named = reader.shown("#tip b");
    let number = nodes.iter().position(|node| node.path.name() == named).unwrap();
    is_selected(number);
    assert_ne!(reader.picture(), before);
    // By the lists.
    browser.click(".referrers li button");
    is_selected(referrers(number, &nodes)[0]);
    assert_eq!(browser.text("document.activeElement.tagName"), "H2", "the focus follows");
    // By the table.
    browser.click("#body tr:nth-child(2) button");
    is_selected(1);
    assert_eq!(browser.text("document.querySelector('[aria-current=true] button').innerText"), "python3-1");
    browser.press(key::ESCAPE);
    assert!(reader.is_hidden("#panel"));
    // By keys: from the first tile to the right.
    browser.value("document.querySelector('#map').focus()");
    browser.press(key::RIGHT);
    browser.press(key::RIGHT);
    let named = reader.shown("#tip b");
    browser.press(key::ENTER);
    is_selected(nodes.iter().position(|node| node.path.name() == named).unwrap());
    browser.click("#close");
    assert!(reader.is_hidden("#panel"));
    browser.click_at(1, 1, 0);
    assert_eq!(reader.picture(), before);
    reader.is_content();
}

#[test]
fn the_picture_is_zoomed_by_wheel_double_click_buttons_and_keys() {
    let Some(reader) = Reader::start() else { return };
    let browser = &reader.browser;
    reader.open("Closure of app-1", "/nix/store", &closure(300));
    let before = reader.picture();
    let zoom = || reader.shown("#zoom").trim_end_matches('%').replace(',', "").parse::<u32>().unwrap();
    browser.click("#in");
    assert_eq!(zoom(), 200);
    assert_ne!(reader.picture(), before);
    browser.click("#out");
    assert_eq!(zoom(), 100);
    assert_eq!(reader.picture(), before);
    let (x, y) = reader.place(60, 60);
    browser.wheel_at(x, y, -300);
    let wheeled = zoom();
    assert!(wheeled > 100);
    browser.wheel_at(x, y, 2_000);
    assert_eq!(zoom(), 100);
    // Into the family, then into the tile.
    browser.click_at(x, y, 2);
    let family = zoom();
    assert!(family > 100);
    browser.click_at(x, y, 2);
    assert!(zoom() > family);
    browser.click("#reset");
    assert_eq!(zoom(), 100);
    browser.value("document.querySelector('#map').focus()");
    browser.press("+");
    assert_eq!(zoom(), 200);
    browser.press("0");
    assert_eq!(zoom(), 100);
    reader.is_content();
}

#[test]
fn twenty_thousand_paths_are_seen_within_seconds() {
    let Some(reader) = Reader::start() else { return };
    let browser = &reader.browser;
    let nodes = closure(20_000);
    let start = Instant::now();
    reader.open("Closure of app-1", "/nix/store", &nodes);
    reader.picture();
    let opened = start.elapsed();
    assert!(opened < Duration::from_secs(8), "{opened:?}");
    assert_eq!(reader.totals()[0], "20,000");
    let start = Instant::now();
    browser.type_into("#search", "linux");
    browser.click("[data-key=name]");
    reader.picture();
    let searched = start.elapsed();
    assert!(searched < Duration::from_secs(5), "{searched:?}");
    assert_eq!(reader.rows(), 200);
    // The smallest share the largest tile, which is the first that an arrow finds.
    browser.value("document.querySelector('#map').focus()");
    browser.press(key::RIGHT);
    assert_eq!(reader.shown("#tip b"), "… and 15,000 more");
    browser.press(key::ENTER);
    browser.press(key::RIGHT);
    assert_eq!(reader.shown("#tip b"), "… and 10,000 more");
    reader.is_content();
}

#[test]
fn none_one_and_paths_without_sizes_are_shown() {
    let Some(reader) = Reader::start() else { return };
    reader.open("Nothing", "/nix/store", &[]);
    assert_eq!(reader.totals(), ["0", "0 B", "0"]);
    assert!(!reader.is_hidden("#empty"));
    reader.is_content();

    let mut nodes = closure(3);
    for node in &mut nodes {
        node.nar_size = 0;
    }
    reader.open("No sizes", "/nix/store", &nodes);
    assert_eq!(reader.totals(), ["3", "0 B", "1"]);
    assert!(!reader.is_hidden("#empty"));
    reader.browser.click("#body tr:last-child button");
    assert!(reader.shown("#panel").contains("0.00%"));
    reader.is_content();

    let path = StorePath::new(HashPart::new([7; HashPart::LEN]), "one").unwrap();
    reader.open("One", "/nix/store", &[Node { path, nar_size: u64::MAX, references: vec![0] }]);
    assert_eq!(reader.totals(), ["1", "16.0 EiB", "1"]);
    let (x, y) = reader.place(99, 99);
    reader.browser.click_at(x, y, 1);
    assert_eq!(reader.shown("#panel h2"), "one");
    reader.is_content();
}

#[test]
fn hostile_texts_are_shown_and_not_run() {
    let Some(reader) = Reader::start() else { return };
    let hostile = "/</title></script><script>document.title='run'</script><!--\"'><img src=x onerror=document.title='run'>&lt;\u{2028}{style}";
    let nodes = closure(3);
    reader.open(hostile, hostile, &nodes);
    assert_eq!(reader.browser.text("document.title"), hostile);
    assert_eq!(reader.browser.text("document.querySelector('h1').textContent"), hostile);
    reader.browser.click("#body tr button");
    let shown = reader.browser.text("document.querySelector('#panel .path').textContent");
    assert_eq!(shown, format!("{hostile}/{}", nodes[0].path.as_str()));
    reader.is_content();
}

#[test]
fn a_phone_scrolls_in_one_direction_only_and_the_dark_is_dark() {
    let Some(reader) = Reader::start() else { return };
    let browser = &reader.browser;
    reader.open(&"A long title ".repeat(20), "/nix/store", &closure(300));
    let light = browser.text("getComputedStyle(document.body).backgroundColor");
    browser.emulate(390, 844, "dark");
    reader.picture();
    assert_ne!(browser.text("getComputedStyle(document.body).backgroundColor"), light);
    browser.click("#body tr button");
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
    assert_eq!(
        browser.value("document.querySelector('#list').scrollWidth <= document.querySelector('#list').clientWidth"),
        true
    );
    reader.is_content();
}
