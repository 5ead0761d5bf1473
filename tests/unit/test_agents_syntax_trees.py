"""The structure of code, read from its syntax trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diurna_agents.syntax_trees import read_modules, symbols_of

FILES = {
    "src/shop/__init__.py": '"""A shop."""\nfrom .prices import price\n',
    "src/shop/prices.py": "from decimal import Decimal\n\n\n"
    "async def price(name: str, *, tax: float = 0.2) -> Decimal:\n"
    '    """What it costs.\n\n    With tax.\n    """\n    return Decimal(1)\n',
    "src/shop/cart.py": "import shop\nfrom shop import price as cost\n\n\nclass Cart(dict[str, int], metaclass=type):\n"
    "    size: int = 0\n\n    @property\n    def total(self) -> int:\n        return self._sum()\n\n"
    "    def _sum(self):\n        return cost('x'), shop.prices.price('y'), print(), helper()\n\n\n"
    "def helper():\n    return Cart()\n",
    "tests/test_a.py": "def test(): assert 1\n",
    "broken.py": "def f(:\n",
}


def modules(root: Path) -> dict[str, dict[str, Any]]:
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return {module["path"]: module for module in read_modules(root, [*FILES, "gone.py"])}


def test_modules_are_named_as_they_are_imported(tmp_path: Path):
    names = {path: module["module"] for path, module in modules(tmp_path).items()}
    assert names["src/shop/__init__.py"] == "shop"
    assert names["src/shop/cart.py"] == "shop.cart"
    assert names["tests/test_a.py"] == "test_a"


def test_functions_and_classes_are_told_with_signatures_docstrings_and_places(tmp_path: Path):
    found = modules(tmp_path)
    (price,) = found["src/shop/prices.py"]["functions"]
    assert price["kind"] == "async function"
    assert price["signature"] == "price(name: str, *, tax: float=0.2) -> Decimal"
    assert price["docstring"] == "What it costs.\n\nWith tax."
    assert (price["line"], price["end_line"]) == (4, 9)
    (cart,) = found["src/shop/cart.py"]["classes"]
    assert (cart["bases"], cart["attributes"]) == (["dict[str, int]"], ["size: int"])
    assert [method["name"] for method in cart["methods"]] == ["total", "_sum"]
    assert cart["methods"][0]["decorators"] == ["property"]
    assert found["src/shop/cart.py"]["imports"] == ["shop"]


def test_calls_are_joined_to_what_they_call_through_imports_and_self(tmp_path: Path):
    symbols = {symbol["qualified"]: symbol for module in modules(tmp_path).values() for symbol in symbols_of(module)}
    total, summed = symbols["shop.cart.Cart.total"], symbols["shop.cart.Cart._sum"]
    assert total["calls"] == [{"name": "self._sum", "to": "shop.cart.Cart._sum"}]
    assert {call["name"]: call["to"] for call in summed["calls"]} == {
        "cost": "shop.prices.price",
        "shop.prices.price": "shop.prices.price",
        "print": None,
        "helper": "shop.cart.helper",
    }
    assert symbols["shop.cart.helper"]["calls"] == [{"name": "Cart", "to": "shop.cart.Cart"}]


def test_what_cannot_be_parsed_or_read_is_said(tmp_path: Path):
    found = modules(tmp_path)
    assert found["broken.py"]["problem"].startswith("does not parse, line 1:")
    assert found["gone.py"]["problem"] == "cannot be read: FileNotFoundError"


def test_a_file_made_to_break_a_parser_is_said_and_not_more(tmp_path: Path):
    (tmp_path / "deep.py").write_text("(" * 5_000 + ")" * 5_000)
    (tmp_path / "null.py").write_bytes(b"x = 1\0\n")
    problems = [module["problem"] for module in read_modules(tmp_path, ["deep.py", "null.py"])]
    assert all(problems)
