//! scratch
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::allow_attributes_without_reason, missing_docs, clippy::panic)]
use facewire_domain::*; use facewire_inference::*; use facewire_vision::*; use facewire_vision::align::*; use std::path::*;
fn rt()->OnnxRuntime{OnnxRuntime::load(Path::new("/tmp/art/ort/onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap()}
fn cos(a:&[f32],b:&[f32])->f32{a.iter().zip(b).map(|(x,y)|x*y).sum()}
pub fn border(img:&RgbImage,frac:f32)->(RgbImage,f32){
  let p=(img.width().max(img.height()) as f32*frac).round(); let (w,h)=(img.width() as f32,img.height() as f32);
  (crop(img,&BoundingBox{x1:-p,y1:-p,x2:w+p,y2:h+p}),p) }
fn shift(mut f:FoundFace,p:f32)->FoundFace{ f.bbox.x1-=p;f.bbox.x2-=p;f.bbox.y1-=p;f.bbox.y2-=p; for l in f.landmarks.iter_mut(){l.x-=p;l.y-=p} f}
const BOX:[f32;4]=[56.0,66.0,0.0,0.0];
// derived box in template frame: center cx,cy size w,h
fn refine(lm:&mut LandmarkModel,img:&RgbImage,l:&Landmarks,bx:[f32;4],deroll:bool)->Option<Landmarks>{
  let t=Similarity::fit(l,&TEMPLATE).ok()?;
  let [cx,cy,w,h]=bx;
  if deroll {
    // template -> 64 cut : anisotropic; use similarity with square? sx=64/w sy=64/h; emulate with square size s=max
    let s=64.0/((w+h)/2.0) as f64;
    // compose: img->template->cut
    let (ox,oy)=((cx-(w+h)/4.0) as f64,(cy-(w+h)/4.0) as f64);
    let c=Similarity{a:t.a*s,b:t.b*s,tx:(t.tx-ox)*s,ty:(t.ty-oy)*s};
    let cut=warp(img,&c,64,64);
    let f=lm.fractions(&cut).ok()??;
    let inv=c.inverse();
    Some(f.map(|p|inv.apply(Point::new(p.x*64.0-0.5,p.y*64.0-0.5))))
  } else {
    let inv=t.inverse(); let c=inv.apply(Point::new(cx,cy)); let k=inv.scale() as f32;
    let b=BoundingBox{x1:c.x-w*k/2.0,x2:c.x+w*k/2.0,y1:c.y-h*k/2.0,y2:c.y+h*k/2.0};
    lm.find(img,&b).ok()?
  }
}
fn main(){
 let pack=Pack::open(Path::new("/tmp/fw/default")).unwrap(); let rt=rt(); let o=SessionOptions::default();
 let mut finder=pack.finder(&rt,&o).unwrap(); let mut emb=pack.embedder(&rt,&o).unwrap();
 let mut lmm=LandmarkModel::new(rt.open(Path::new("/tmp/fw/default/fr_landmark.onnx"),&o).unwrap());
 let data=Path::new("/work/shared/data");
 let mut files:Vec<PathBuf>=std::fs::read_dir(data.join("pairs")).unwrap().map(|e|e.unwrap().path()).filter(|p|p.extension().unwrap()!="csv").collect();
 files.sort();
 let imgs:Vec<(String,RgbImage)>=files.iter().map(|f|(f.file_name().unwrap().to_string_lossy().into_owned(),decode(&std::fs::read(f).unwrap(),&DecodeLimits::default()).unwrap())).collect();
 let csv=std::fs::read_to_string(data.join("pairs/pairs.csv")).unwrap();
 // mean box
 let mut bx=[0f32;4]; let mut n=0f32;
 let mut base=std::collections::HashMap::new();
 for (name,img) in &imgs { let f=finder.find(img).unwrap(); if f.is_empty(){continue} let f=f[0]; base.insert(name.clone(),f);
   let t=Similarity::fit(&f.landmarks,&TEMPLATE).unwrap(); let c=t.apply(Point::new((f.bbox.x1+f.bbox.x2)/2.0,(f.bbox.y1+f.bbox.y2)/2.0));
   let k=t.scale() as f32; for (a,v) in bx.iter_mut().zip([c.x,c.y,f.bbox.width()*k,f.bbox.height()*k]){*a+=v} n+=1.0;}
 for a in bx.iter_mut(){*a/=n} println!("mean box in template frame {bx:?}");
 let _=BOX;
 let mut run=|label:&str,embs:&dyn Fn(&str)->Option<Vec<f32>>|{ let mut g=vec![];let mut im=vec![]; for l in csv.lines().skip(1){let p:Vec<&str>=l.split(',').collect(); if let (Some(a),Some(b))=(embs(p[0]),embs(p[1])){ if p[2]=="1"{g.push(cos(&a,&b))}else{im.push(cos(&a,&b))}}}
  g.sort_by(f32::total_cmp);im.sort_by(f32::total_cmp); println!("{label:30} genuine n={} min={:.3} p5={:.3} mean={:.4}  impostor n={} max={:.3} mean={:.4}",g.len(),g[0],g[g.len()/20],g.iter().sum::<f32>()/g.len() as f32,im.len(),im[im.len()-1],im.iter().sum::<f32>()/im.len() as f32);};
 for roll in [0.0f32,20.0,40.0]{
 for mode in 0..7 { let mut m=std::collections::HashMap::new();
  for (name,img0) in &imgs { let img=if roll==0.0{img0.clone()}else{degrade::rotate(img0,roll,0.8)}; let f=if roll==0.0{match base.get(name){Some(f)=>*f,None=>continue}}else{match finder.find(&img).unwrap().first(){Some(f)=>*f,None=>continue}};
   let l=match mode{0=>Some(f.landmarks),1=>refine(&mut lmm,&img,&f.landmarks,bx,false),2=>refine(&mut lmm,&img,&f.landmarks,bx,true),
     3=>refine(&mut lmm,&img,&f.landmarks,bx,true).and_then(|l|refine(&mut lmm,&img,&l,bx,true)),
     4=>refine(&mut lmm,&img,&f.landmarks,bx,true).map(|l|{let mut o=l;for (a,b) in o.iter_mut().zip(&f.landmarks){*a=a.middle(*b)} o}),
     5=>refine(&mut lmm,&img,&f.landmarks,[bx[0],bx[1],bx[2]*1.1,bx[3]*1.1],true),
     _=>refine(&mut lmm,&img,&f.landmarks,[bx[0],bx[1],bx[2]*0.9,bx[3]*0.9],true)};
   if let Some(l)=l{ if let Ok(a)=align(&img,&l){ m.insert(name.clone(),emb.embed(&[a.face]).unwrap().remove(0)); } } }
  run(&format!("roll {roll} mode {mode} n={}",m.len()),&|n|m.get(n).cloned());
 }}
 // stability on tight crops
 let margins=[-0.08f32,-0.03,0.0,0.05,0.1,0.4]; let mut rows=vec![];
 for (name,img) in &imgs { let Some(f0)=base.get(name) else{continue}; let e0=emb.embed(&[align(img,&f0.landmarks).unwrap().face]).unwrap().remove(0);
  for m in margins{ let mg=f0.bbox.width().max(f0.bbox.height())*m;
   let b=BoundingBox{x1:f0.bbox.x1-mg,y1:f0.bbox.y1-mg,x2:f0.bbox.x2+mg,y2:f0.bbox.y2+mg}.clip(img.width() as f32,img.height() as f32); let c=crop(img,&b);
   for bord in [false,true]{ let (ci,p)=if bord{border(&c,0.25)}else{(c.clone(),0.0)};
    if let Some(f)=finder.find(&ci).unwrap().first(){ 
      let dist=|a:&Landmarks,b:&Landmarks|{let e=a[0].distance(a[1]).max(b[0].distance(b[1])); a.iter().zip(b).map(|(p,q)|p.distance(*q)).fold(0f32,f32::max)/e};
      let r1=refine(&mut lmm,&ci,&f.landmarks,bx,false); let r2=refine(&mut lmm,&ci,&f.landmarks,bx,true);
      let d1=r1.map(|r|dist(&r,&f.landmarks)).unwrap_or(9.0); let d2=r2.map(|r|dist(&r,&f.landmarks)).unwrap_or(9.0);
      let al=align(&ci,&f.landmarks).unwrap(); let e=emb.embed(&[al.face]).unwrap().remove(0);
      let cr=r2.and_then(|l|align(&ci,&l).ok()).map(|a|cos(&emb.embed(&[a.face]).unwrap()[0],&e0)).unwrap_or(-1.0);
      rows.push((bord,m,cos(&e,&e0),d1,d2,al.residual,cr,f.detection_score)); let _=p; let _=shift; }
   }}}
 rows.sort_by(|a,b|a.2.total_cmp(&b.2));
 for bord in [false,true]{ println!("border {bord}"); for r in rows.iter().filter(|r|r.0==bord).take(45){println!("  m{:+.2} cos={:.2} d1={:.2} d2={:.2} res={:.1} refcos={:.2} det={:.2}",r.1,r.2,r.3,r.4,r.5,r.6,r.7)}}
 let good:Vec<_>=rows.iter().filter(|r|r.2>0.9).collect(); let mut d1:Vec<f32>=good.iter().map(|r|r.3).collect(); let mut d2:Vec<f32>=good.iter().map(|r|r.4).collect(); d1.sort_by(f32::total_cmp); d2.sort_by(f32::total_cmp);
 println!("good n={} d1 p50 {:.3} p90 {:.3} p97 {:.3} p99 {:.3} max {:.3} | d2 p50 {:.3} p90 {:.3} p97 {:.3} p99 {:.3} max {:.3}",good.len(),d1[d1.len()/2],d1[d1.len()*9/10],d1[d1.len()*97/100],d1[d1.len()*99/100],d1[d1.len()-1],d2[d2.len()/2],d2[d2.len()*9/10],d2[d2.len()*97/100],d2[d2.len()*99/100],d2[d2.len()-1]);
}
