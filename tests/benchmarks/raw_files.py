"""Small files in the formats of the public data sets, with their quirks; no row of any of them is real."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator

_VOCABULARY = (
    "the a it was very good bad soft nice product skin hair and but I bought this for my wife daughter colour works "
    "fine returned broke loved smell size fits cheap strong battery light again never"
)
WORDS = _VOCABULARY.split()


def review_2023(rng: random.Random, number: int) -> dict:
    """A review as the 2023 edition writes it: a tenth with tags or entities, some with pictures."""
    text = " ".join(rng.choices(WORDS, k=rng.randint(5, 110)))
    if number % 10 == 0:
        text = text.replace("and", "<br />").replace("but", "&amp;")
    picture = {"small_image_url": "https://x/s.jpg", "medium_image_url": "https://x/m.jpg", "large_image_url": ""}
    return {
        "rating": float(rng.randint(1, 5)),
        "title": " ".join(rng.choices(WORDS, k=3)),
        "text": text,
        "images": [picture] * (number % 20 == 0),
        "asin": f"B{rng.randrange(5000):09d}",
        "parent_asin": f"B{rng.randrange(4000):09d}",
        "user_id": f"AE{rng.randrange(400_000):026d}",
        "timestamp": 1_500_000_000_000 + number * 1000,
        "helpful_vote": rng.randrange(3),
        "verified_purchase": rng.random() < 0.9,
    }


def lines(rows) -> bytes:
    """Objects as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


REVIEWS_2018 = [
    {
        "overall": 5.0,
        "vote": "1,234",
        "verified": True,
        "reviewTime": "09 1, 2016",
        "reviewerID": "A3CIUOJXQ5VDQ2",
        "asin": "B0000530HU",
        "style": {"Size:": " 7.0 oz", "Flavor:": " Classic"},
        "reviewerName": "somebody",
        "reviewText": "As advertised.<br />Tea &amp; cake &lt;3",
        "summary": "Five Stars",
        "unixReviewTime": 1472688000,
        "image": ["https://x/1.jpg", "https://x/2.jpg"],
    },
    {"overall": 2, "verified": False, "reviewTime": "11 14, 2013", "reviewerID": "A1", "asin": "0005019281"},
]
ITEMS_2023 = [
    {
        "main_category": None,
        "title": "Howard LC0008 &amp; more",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Soft", "<b>Clean</b>"],
        "description": ["A leather cleaner."],
        "price": "from 14.99",
        "images": [{"thumb": "t", "large": "l", "hi_res": None, "variant": "MAIN"}],
        "videos": [],
        "store": "Howard",
        "categories": [],
        "details": {"Package Dimensions": "7 x 5 in", "UPC": 617390882781},
        "parent_asin": "B01CUPMQZE",
    },
    {"main_category": "All Beauty", "title": "Yes", "price": None, "parent_asin": "B076WQZGPM", "details": {}},
    {"title": "", "price": 12, "parent_asin": "0007"},
]
ITEMS_2018 = [
    {
        "category": ["Beauty", "Hair"],
        "description": ["Loud &#39;N Clear", ""],
        "title": "Loud",
        "brand": "Mine",
        "rank": "2,938,573 in Beauty &amp; Personal Care (",
        "main_cat": "All Beauty",
        "asin": "6546546450",
        "price": "$9.99 - $1,019.99",
        "details": {"\n    Package Dimensions: \n": "8 x 7 in", "ASIN: ": "6546546450"},
    },
    {
        "title": "Css",
        "asin": "7178680776",
        "price": ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget",
        "rank": [],
    },
    {"title": "None", "asin": "0123", "price": "", "rank": [">#1 in Toys", "#2 in Games"]},
]
OLD_ITEM = b"{u'asin': '0000143561', 'title': \"It's\", 'price': 12.99}\n"

MOVIELENS = {
    "ml-100k": {"u.data": b"196\t242\t3\t881250949\n186\t302\t5\t891717742\n"},
    "ml-1m": {
        "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n6040::3952::4::956704746\n",
        "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n73::Misérables, Les (1995)::Drama\n".encode(
            "latin-1"
        ),
    },
    "ml-latest-small": {
        "ratings.csv": b"userId,movieId,rating,timestamp\r\n1,1,4.0,964982703\r\n1,3,0.5,964981247\r\n",
        "movies.csv": "movieId,title,genres\r\n1,Toy Story (1995),Adventure|Animation\r\n"
        '3,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Drama\r\n'
        '9,"Say ""Anything""",(no genres listed)\r\n'.encode(),
    },
}
MIND = {
    "news.tsv": b'N1\tsports\tgolf\tHe said "so\tAn abstract\thttps://x\t[]\t[]\nN2\tnews\tworld\tNo quote\t\thttps://x\t\t\n',
    "behaviors.tsv": b"1\tU13740\t11/11/2019 9:05:58 AM\tN9 N8\tN1-1 N2-0\n2\tU7\t11/12/2019 6:11:30 PM\t\tN2-0\n",
}
MIND_TEST = {
    "news.tsv": MIND["news.tsv"],
    "behaviors.tsv": b"1\tU1\t11/19/2019 11:37:45 AM\tN9\tN1 N2\n2\tU2\t11/19/2019 12:00:01 AM\t\tN2\n",
}
_USER = b"81ce123cbb5bd8ce818f60fb3586bba5,03a5648a76832f83c859d46bc06cb64a,2ae,d3c"
OPEN_BANDIT = (
    b",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3,"
    b"user-item_affinity_0,user-item_affinity_1\n"
    b"0,2019-11-24 00:00:00.000018+00:00,1,3,0,0.0125," + _USER + b",0.0,1.5\n"
    b"1,2019-11-24 00:00:03.800821+09:00,0,1,1,0.0125," + _USER + b",2.0,0.0\n"
)


def zipped(files: dict[str, bytes], folder: str = "") -> bytes:
    """A zip file, as bytes."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(f"{folder}/{name}" if folder else name)  # of a fixed date
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def reviews_2023(count: int, seed: int = 0) -> Iterator[dict]:
    """Some reviews of the 2023 edition."""
    rng = random.Random(seed)
    return (review_2023(rng, number) for number in range(count))
