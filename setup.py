"""What pyproject.toml cannot say: packages found below two folders, and two more from folders beside them."""

from setuptools import find_packages, setup

DATA = {"lorabake._recipes": "recipes", "lorabake._vendor": "vendor"}

setup(
    packages=[*find_packages("wrapper"), *find_packages("schemas"), *DATA],
    package_dir={"lorabake": "wrapper/lorabake", "lorabake_schemas": "schemas/lorabake_schemas", **DATA},
)
